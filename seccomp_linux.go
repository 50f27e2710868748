package spawn

import (
	"github.com/virspawn/spawn/internal/command"
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
		c.fail("SetSeccompFilter", "%d instructions; want 1 to %d", len(filter), maxFilter)
	}
	c.want.Confinement.Filter = make([]command.Instruction, len(filter))
	for i, f := range filter {
		c.want.Confinement.Filter[i] = command.Instruction{Code: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	return c
}
