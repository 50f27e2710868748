//go:build linux

package plan

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/secure"
	"github.com/virspawn/spawn/internal/tree"
	"golang.org/x/sys/unix"
)

// forced is what SPAWN_EXECUTOR asks for: "helper", or of what a cloned child
// can do "stub" or "copy".
var forced = sync.OnceValue(func() string {
	if secure.Mode() {
		return ""
	}
	return os.Getenv("SPAWN_EXECUTOR")
})

// HelperForced reports whether SPAWN_EXECUTOR asks for helpers.
func HelperForced() bool { return forced() == "helper" }

// Forced reports whether SPAWN_EXECUTOR asks for anything.
func Forced() bool { return forced() != "" }

// CanClone reports whether a child can be cloned, as far as that is
// known before.
var CanClone = sync.OnceValue(func() bool {
	// Nothing is closed: there is no such descriptor.
	return child.Available && unix.CloseRange(math.MaxUint32, math.MaxUint32, 0) == nil
})

// ChooseExecutor sets who is to run a command. What SPAWN_EXECUTOR forces is
// left out of what is only explained.
func (o *Options) ChooseExecutor(c *command.Command, explain bool) error {
	force := forced()
	if explain {
		force = ""
	}
	switch {
	case c.Hook != "" && secure.Mode():
		return &command.CallError{Method: "SetPreExecHook", Err: errors.New("a process that runs setuid or with file capabilities has no helper to run a hook")}
	case !child.Available && secure.Mode():
		return &command.StartError{Op: "start", Path: c.Name, Err: errNoExecutor}
	case !secure.Mode() && !CanClone():
		o.Executor = ForkedHelper
	case c.Hook != "" || force == "helper" && !c.Namespaces.Joins(unix.CLONE_NEWUSER):
		o.Executor = ChildAndHelper
	case forksOnlyHere(c) && !secure.Mode() && tree.OpenRefusal() != nil:
		o.Executor = ForkedHelper // which forks nothing
	case SharesMemory(c) && force != "stub" && force != "copy":
		o.Executor = Direct
	default:
		o.Executor = Stub
	}
	if o.leavesMemory() && (force == "copy" || !keepsPrivileges()) {
		o.NoStub = true
	}
	return nil
}

// forksOnlyHere reports whether the program of a cloned child would run in
// a child of that one, and the program of a forked helper in the helper itself.
func forksOnlyHere(c *command.Command) bool {
	return !c.Daemon && !c.Namespaces.Joins(unix.CLONE_NEWPID) && (c.Attributes.Cgroup != "" || c.Namespaces.Fresh&ownMemoryKinds != 0)
}

// keepsPrivileges reports whether the execve of a stub leaves this thread's ids
// and capabilities as they are, with what the plan does for it: the saved ids
// become the effective ones; a capability that is permitted and has gone from
// the bounding set is lost; and where the user is not root they need the
// ambient set.
func keepsPrivileges() bool {
	_, euid, suid := unix.Getresuid()
	_, egid, sgid := unix.Getresgid()
	if euid != suid || egid != sgid {
		return false
	}
	if permitted, inheritable := ownCaps(); permitted&^(boundingOf(permitted)|inheritable) != 0 {
		return false
	}
	if euid == 0 {
		return true
	}
	const noAmbientRaise = 1 << 6 // SECBIT_NO_CAP_AMBIENT_RAISE
	bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	return err == nil && bits&noAmbientRaise == 0
}

var errNoExecutor = fmt.Errorf("no child can be cloned on this processor, and a process that runs setuid or with file capabilities has no helper: %w", errors.ErrUnsupported)
