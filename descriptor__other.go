//go:build !linux

package spawn

import "errors"

func isOpen(int) bool { return false }

func openLimit() int { return 1024 }

func setWindowSize(int, uint16, uint16) error { return errors.ErrUnsupported }
