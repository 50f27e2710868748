//go:build linux

package child

import "golang.org/x/sys/unix"

// cloneCall is clone(2); the order of its arguments differs between
// architectures.
func cloneCall(flags, stack, parentTID, childTID uintptr) [6]uintptr {
	return [6]uintptr{unix.SYS_CLONE, flags, stack, parentTID, childTID, 0}
}
