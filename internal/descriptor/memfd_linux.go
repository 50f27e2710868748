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

// SharedPage returns memory of this size that is shared with whoever maps the
// descriptor, by MapShared for example. The caller unmaps it and closes that.
func SharedPage(name string, size int) (page []byte, fd int, err error) {
	if fd, err = Memfd(name, false); err != nil {
		return nil, -1, err
	}
	if err = os.NewSyscallError("ftruncate", unix.Ftruncate(fd, int64(size))); err == nil {
		page, err = MapShared(fd, size)
	}
	if err != nil {
		Close(fd)
		return nil, -1, err
	}
	return page, fd, nil
}

// MapShared maps what SharedPage has made.
func MapShared(fd, size int) ([]byte, error) {
	page, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return page, os.NewSyscallError("mmap", err)
}
