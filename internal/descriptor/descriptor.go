// Package descriptor is about the numbers of this process's descriptors, and
// keeps low ones for what goes to a child.
//
// Every room but command may import it, and it imports none of them.
package descriptor

import "os"

// lastStream is the highest number of a standard stream.
const lastStream = 2

// Of returns f's descriptor, without the change to blocking mode that f.Fd
// makes; -1 when f is not open.
func Of(f *os.File) int {
	if f == nil {
		return -1
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return -1
	}
	n := -1
	if conn.Control(func(fd uintptr) { n = int(fd) }) != nil {
		return -1
	}
	return n
}
