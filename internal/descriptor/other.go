//go:build !linux

package descriptor

import "errors"

// IsOpen reports false: nobody asks here.
func IsOpen(int) bool { return false }

// Limit returns a limit that is low enough for any system.
func Limit() int { return 1024 }

// SetWindowSize fails: there is no terminal here.
func SetWindowSize(int, uint16, uint16) error { return errors.ErrUnsupported }
