//go:build !linux || !(386 || amd64 || arm || arm64 || loong64 || ppc64 || ppc64le || riscv64 || s390x)

// Package nofile knows the limit of open descriptors as this process got it, on
// Linux but for MIPS.
package nofile

// Original is not known here.
func Original() (soft, hard uint64, raised bool) { return 0, 0, false }
