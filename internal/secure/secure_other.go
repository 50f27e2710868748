//go:build !linux

// Package secure knows whether an unprivileged user has chosen the environment
// of this process.
package secure

import "os"

// Mode reports whether this process runs setuid or setgid.
func Mode() bool { return os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() }
