//go:build linux

package child

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// cloneCall is clone(2); the order of its arguments differs between
// architectures.
func cloneCall(flags, stack, parentTID, childTID uintptr) [6]uintptr {
	return [6]uintptr{unix.SYS_CLONE, flags, stack, parentTID, 0, childTID}
}

// entry is the code before the loop: it loads the address of the frame.
func entry(frame uint32) []byte {
	const x19 = 19
	low, high := frame&0xffff, frame>>16
	// MOVZ $low, R19
	b := binary.LittleEndian.AppendUint32(nil, 0xd2800000|low<<5|x19)
	// MOVK $(high<<16), R19
	return binary.LittleEndian.AppendUint32(b, 0xf2a00000|high<<5|x19)
}
