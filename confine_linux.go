package spawn

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// maxFilter is the kernel's limit. (BPF_MAXINSNS)
const maxFilter = 4096

// SetSeccompFilter has the kernel run a BPF program on each system call of the program and of its descendants, instead of a filter set
// before. It is loaded last, but two calls come after it and must be allowed: rt_sigprocmask and execve. It implies
// [Command.SetNoNewPrivs], without which an ordinary user may load none. examples/seccomp builds one from names of system calls.
//
// A filter that the kernel does not take is an EINVAL of the start. When it kills the child in execve, the command ends by SIGSYS.
// (seccomp(2), systemd's SystemCallFilter=)
func (c *Command) SetSeccompFilter(filter []unix.SockFilter) *Command {
	if len(filter) == 0 || len(filter) > maxFilter {
		c.fail("SetSeccompFilter", "%d instructions are not 1 to %d", len(filter), maxFilter)
	}
	c.confinement.filter = make([]bpfInstruction, len(filter))
	for i, f := range filter {
		c.confinement.filter[i] = bpfInstruction{f.Code, f.Jt, f.Jf, f.K}
	}
	return c
}

func (pl *plan) noNewPrivs() {
	if c := &pl.cmd.confinement; c.noNewPrivs || c.filter != nil || pl.landlock >= 0 {
		pl.prog.Add(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	}
}

func (pl *plan) seccomp() {
	filter := pl.cmd.confinement.filter
	if filter == nil {
		return
	}
	const size = 8
	addr := pl.prog.Alloc(len(filter) * size)
	code := pl.prog.Bytes(addr, len(filter)*size)
	for i, f := range filter {
		b := code[i*size:]
		binary.NativeEndian.PutUint16(b, f.code)
		b[2], b[3] = f.jt, f.jf
		binary.NativeEndian.PutUint32(b[4:], f.k)
	}
	// struct sock_fprog: the number of instructions, and where they are.
	fprog := pl.prog.Pointers(1)
	binary.NativeEndian.PutUint16(pl.prog.Bytes(fprog, 2), uint16(len(filter)))
	pl.prog.SetPointer(fprog, 1, addr)
	pl.prog.Add(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, fprog)
}
