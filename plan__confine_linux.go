package spawn

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

func (pl *plan) noNewPrivs() {
	if c := &pl.cmd.confinement; c.noNewPrivs || c.filter != nil || pl.fds.landlock >= 0 {
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
