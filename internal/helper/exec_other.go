//go:build !linux

// Package helper runs a program by an ordinary Go loop. It exists on Linux only.
package helper
