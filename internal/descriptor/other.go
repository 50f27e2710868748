//go:build !linux

package descriptor

import "errors"

// IsOpen reports false: here the numbers are only those of dry runs.
func IsOpen(int) bool { return false }

// Limit returns a limit for the numbers of dry runs.
func Limit() int { return 1024 }

// SetWindowSize fails: there is no terminal here.
func SetWindowSize(int, uint16, uint16) error { return errors.ErrUnsupported }
