//go:build 386 || arm

package program

import "golang.org/x/sys/unix"

// Calls whose first variant is for ids of 16 bits, to which 65536 is root, or
// for places in files of 32 bits. Their names are those of the man pages.
const (
	SysFcntl     = unix.SYS_FCNTL64
	SysMmap      = unix.SYS_MMAP2
	SysSetgroups = unix.SYS_SETGROUPS32
	SysSetresgid = unix.SYS_SETRESGID32
	SysSetresuid = unix.SYS_SETRESUID32
)
