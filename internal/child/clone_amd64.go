//go:build linux

package child

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// cloneCall is clone(2); the order of its arguments differs between
// architectures.
func cloneCall(flags, stack, parentTID, childTID uintptr) [6]uintptr {
	return [6]uintptr{unix.SYS_CLONE, flags, stack, parentTID, childTID, 0}
}

// entry is the code before the loop: it loads the address of the frame.
func entry(frame uint32) []byte {
	// MOVL $frame, R12, which clears the upper half.
	return binary.LittleEndian.AppendUint32([]byte{0x41, 0xbc}, frame)
}
