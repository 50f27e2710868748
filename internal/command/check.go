package command

import (
	"errors"
	"fmt"
	"math/bits"
	"path/filepath"
	"strings"

	"github.com/syndtr/gocapability/capability"
)

// CheckWhole refuses what does not go together, whatever the machine: the
// program is to run in a child or, with exec, in place of the parent.
func (c *Command) CheckWhole(exec bool) error {
	if err := c.CheckPath(); err != nil {
		return err
	}
	if err := c.checkIDs(); err != nil {
		return err
	}
	n, a, caps := &c.Namespaces, &c.Attributes, &c.Caps
	more := caps.Ambient &^ caps.Allowed
	switch {
	case n.IsMapped() && n.Fresh&newUser == 0:
		return &CallError{"SetUIDMap", errors.New("without SetNamespaces(UserNamespace) there is nothing to map")}
	case exec && (n.Fresh != 0 || n.Joined != nil):
		return &CallError{"Exec", errors.New("namespaces are for a child")}
	case a.PTY != nil && a.TTY != nil:
		return &CallError{"SetPTY", errors.New("by SetControllingTTY the session has another terminal")}
	case c.Hook != "" && n.Joins(newUser):
		return &CallError{"SetPreExecHook", errors.New("the helper that runs a hook would be its root's to look at, in a user namespace that is joined")}
	case exec && a.Cgroup != "":
		return &CallError{"Exec", errors.New("a cgroup is for a child")}
	case a.Chroot != "" && !filepath.IsAbs(c.Name):
		return &CallError{"SetChroot", fmt.Errorf("the program %q has no absolute path in the new root", c.Name)}
	case c.Daemon && a.DeathSignal != 0:
		return &CallError{"SetParentDeathSignal", errors.New("a daemon outlives its parent")}
	case c.Daemon && a.PTY != nil:
		return &CallError{"SetPTY", errors.New("a daemon has no terminal")}
	case c.Daemon && a.TTY != nil:
		return &CallError{"SetControllingTTY", errors.New("a daemon has no terminal")}
	case caps.Limited && more != 0:
		name := "CAP_" + strings.ToUpper(capability.Cap(bits.TrailingZeros64(more)).String())
		return &CallError{"SetAmbientCaps", fmt.Errorf("%s is not among those of AllowCap", name)}
	case c.Daemon && !exec:
		return c.Streams.CheckAlone("Daemonize")
	}
	return nil
}

// CheckStartOnly refuses in a call that returns no Process what needs one.
func (c *Command) CheckStartOnly(method string) error {
	switch {
	case c.Handshake:
		return &CallError{method, errors.New("RequireHandshake needs a Process to shake hands with; use Start")}
	case c.Daemon:
		return &CallError{method, fmt.Errorf("%s is for a program that nobody waits for; use Start", "Daemonize")}
	case c.Attributes.PTY != nil:
		return &CallError{method, errors.New("SetPTY needs Start")}
	}
	return nil
}

// CheckAlone refuses streams that need the parent at the other end.
func (s *Streams) CheckAlone(method string) error {
	for n, s := range s {
		switch s.Kind {
		case StreamDefault, StreamNull, StreamInherit, StreamFile, StreamMerge, StreamData:
		default:
			return errNeedsParent(method, n, s.Kind)
		}
	}
	return nil
}

// ErrPipe is the error for a pipe whose other end nobody would have: method
// returns no Process.
func ErrPipe(method string, n int) error {
	return &CallError{method, errors.New([...]string{"PipeStdin", "PipeStdout", "PipeStderr"}[n] + " needs Start")}
}

// errNeedsParent is the error for a stream that ends with the parent.
func errNeedsParent(method string, n int, kind StreamKind) error {
	if kind == StreamPipe && method == "Exec" {
		return ErrPipe(method, n)
	}
	end := "which the daemon outlives"
	if method == "Exec" {
		end = "which Exec replaces"
	}
	way, what := "goes to", "buffer"
	switch kind {
	case StreamReader:
		way, what = "comes from", "reader"
	case StreamWriter:
		what = "writer"
	case StreamPipe:
		what = "pipe"
		if n == Stdin {
			way = "comes from"
		}
	}
	return &CallError{method, fmt.Errorf("%s %s a %s of this process, %s", StreamNames[n], way, what, end)}
}

// ErrTooLong is the error for data of this size, given by setter, that nobody
// would be left to write into a pipe that holds less.
func ErrTooLong(method, setter string, size, holds int) error {
	return &CallError{method, fmt.Errorf("%s: %d bytes do not fit into a pipe (%d KiB)", setter, size, holds>>10)}
}
