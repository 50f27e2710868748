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
