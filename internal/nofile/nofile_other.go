//go:build !linux

// Package nofile knows the limit of open descriptors as this process got it. It exists on Linux only.
package nofile
