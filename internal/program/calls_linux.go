//go:build !(386 || arm)

package program

import "golang.org/x/sys/unix"

// Calls that have two variants on some 32-bit processors.
const (
	SysFcntl     = unix.SYS_FCNTL
	SysMmap      = unix.SYS_MMAP
	SysSetgroups = unix.SYS_SETGROUPS
	SysSetresgid = unix.SYS_SETRESGID
	SysSetresuid = unix.SYS_SETRESUID
)
