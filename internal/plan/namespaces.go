//go:build linux

package plan

import (
	"errors"
	"fmt"
	"os"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"golang.org/x/sys/unix"
)

func (pl *Plan) checkNamespaces() error {
	n := &pl.Command.Namespaces
	if !pl.Command.Daemon { // which gets them when it is forked
		pl.CloneOptions.Namespaces = uint64(n.Fresh)
	}
	pl.CloneOptions.OwnMemory = ownMemory(pl.Command, pl.Options.Executor)
	if pl.Options.Executor == ForkedHelper && n.Joins(unix.CLONE_NEWUSER|unix.CLONE_NEWTIME) {
		return &command.CallError{Method: "JoinNamespace", Err: fmt.Errorf("no child can be cloned here, and a helper has threads, which may not join a user or time namespace: %w", errors.ErrUnsupported)}
	}
	for _, j := range n.Joined {
		fd, err := descriptor.Dup(j.File)
		if err != nil {
			return &command.StartError{Op: "JoinNamespace", Path: pl.Path, Err: err}
		}
		pl.childEnds = append(pl.childEnds, fd)
		switch {
		case j.Kind != unix.CLONE_NEWPID:
			pl.fds.joined = append(pl.fds.joined, keptNamespace{j.Kind, pl.fds.keep(fd)})
		case pl.Command.Daemon:
			pl.fds.daemonPIDNS = pl.fds.keep(fd)
		default:
			pl.JoinedPID = fd
		}
	}
	return nil
}

// keptNamespace is a namespace to join, by its place in placement.kept.
type keptNamespace struct {
	kind uint32
	kept int
}

// joinNamespaces comes after the descriptors have their numbers.
func (pl *Plan) joinNamespaces() {
	if pl.Options.Executor == ForkedHelper && pl.Command.Namespaces.Joins(unix.CLONE_NEWNS) {
		// Only a thread whose directory and root no other one shares may join
		// a mount namespace.
		pl.Program.Add(unix.SYS_UNSHARE, unix.CLONE_FS)
	}
	for _, j := range pl.fds.joined {
		pl.Program.Add(unix.SYS_SETNS, pl.fds.keptFD(j.kept), uintptr(j.kind))
	}
	if pl.Command.Namespaces.Fresh&unix.CLONE_NEWNS != 0 {
		pl.Program.Add(unix.SYS_MOUNT, 0, pl.Program.CString("/"), 0, unix.MS_REC|unix.MS_SLAVE, 0)
	}
}

// inOtherUserNamespace reports whether the child has a new user namespace, or
// joins one.
func (pl *Plan) inOtherUserNamespace() bool {
	n := &pl.Command.Namespaces
	return n.Fresh&unix.CLONE_NEWUSER != 0 || n.Joins(unix.CLONE_NEWUSER)
}

// DeniesSetgroups reports whether groups cannot be set in the new
// user namespace.
func DeniesSetgroups(n *command.Namespaces) bool {
	return n.Fresh&unix.CLONE_NEWUSER != 0 && os.Geteuid() != 0
}
