//go:build !linux

package descriptor

import "errors"

func IsOpen(int) bool { return false }

func Limit() int { return 1024 }

func SetWindowSize(int, uint16, uint16) error { return errors.ErrUnsupported }
