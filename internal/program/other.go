//go:build !linux

// Package program holds what a child does between its creation and execve. It
// exists on Linux only.
package program
