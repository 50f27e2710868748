package spawn

import (
	"github.com/virspawn/spawn/internal/command"
	"golang.org/x/sys/unix"
)

// maxFilter is the kernel's limit. (BPF_MAXINSNS)
const maxFilter = 4096

// SetSeccompFilter has the kernel run a BPF program on each system call of the
// program and of its descendants.
//
// The filter replaces one set before. The default is no filter. It is loaded
// last, but two calls come after it and must be allowed: rt_sigprocmask
// and execve. The program in examples/seccomp builds a filter from names of
// system calls.
//
// It implies [Command.SetNoNewPrivs], without which an ordinary user may not
// load a filter. If the kernel does not take the filter, starting fails with
// EINVAL. If the filter kills the child in execve, the command ends by SIGSYS.
// With [Command.Exec] it may end the calling process.
//
// The method exists on Linux only: code that calls it does not build on
// other systems.
//
// Like systemd's SystemCallFilter=; see seccomp(2).
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
