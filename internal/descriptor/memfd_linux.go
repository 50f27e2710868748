package descriptor

import (
	"os"

	"golang.org/x/sys/unix"
)

// Memfd returns an empty file in memory that can be sealed, and executed if
// executable is set. The caller closes it.
//
// What vm.memfd_noexec says of it is Linux 6.3 and later.
func Memfd(name string, executable bool) (fd int, err error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	mode := unix.MFD_NOEXEC_SEAL
	if executable {
		mode = unix.MFD_EXEC
	}
	fd, err = unix.MemfdCreate(name, flags|mode)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(name, flags)
	}
	return fd, os.NewSyscallError("memfd_create("+name+")", err)
}
