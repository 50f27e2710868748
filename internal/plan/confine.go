//go:build linux

package plan

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// denyWriteExecute sets a flag of the memory, which the kernel keeps
// over execve.
func (pl *Plan) denyWriteExecute() {
	if pl.Command.Confinement.DenyWriteExecute {
		pl.Program.Add(unix.SYS_PRCTL, unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN)
	}
}

func (pl *Plan) noNewPrivs() {
	if c := &pl.Command.Confinement; c.NoNewPrivs || c.Filter != nil || c.Landlock != nil {
		pl.Program.Add(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	}
}

func (pl *Plan) seccomp() {
	filter := pl.Command.Confinement.Filter
	if filter == nil {
		return
	}
	const size = 8
	addr := pl.Program.Alloc(len(filter) * size)
	code := pl.Program.Bytes(addr, len(filter)*size)
	for i, f := range filter {
		b := code[i*size:]
		binary.NativeEndian.PutUint16(b, f.Code)
		b[2], b[3] = f.Jt, f.Jf
		binary.NativeEndian.PutUint32(b[4:], f.K)
	}
	// struct sock_fprog: the number of instructions, and where they are.
	fprog := pl.Program.Pointers(1)
	binary.NativeEndian.PutUint16(pl.Program.Bytes(fprog, 2), uint16(len(filter)))
	pl.Program.SetPointer(fprog, 1, addr)
	pl.Program.Add(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, fprog)
}
