//go:build linux

package plan

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"golang.org/x/sys/unix"
)

func (pl *Plan) checkNamespaces() error {
	n := &pl.Command.Namespaces
	if err := pl.checkMapped(); err != nil {
		return err
	}
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
		default:
			pl.fds.pidNS = pl.fds.keep(fd)
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
	for _, j := range pl.fds.joined {
		if j.kind != unix.CLONE_NEWNS || pl.Helper == nil {
			pl.Program.Add(unix.SYS_SETNS, pl.fds.keptFD(j.kept), uintptr(j.kind))
		}
	}
	if pl.Command.Namespaces.Fresh&unix.CLONE_NEWNS != 0 {
		pl.Program.Add(unix.SYS_MOUNT, 0, pl.Program.CString("/"), 0, unix.MS_REC|unix.MS_SLAVE, 0)
	}
}

// joinMountsOfHelper moves the thread that runs the program: the others stay.
func (pl *Plan) joinMountsOfHelper() {
	if pl.Helper == nil || !pl.Command.Namespaces.Joins(unix.CLONE_NEWNS) {
		return
	}
	// Only a thread whose directory and root no other one shares may do it.
	pl.Program.Add(unix.SYS_UNSHARE, unix.CLONE_FS)
	for _, j := range pl.fds.joined {
		if j.kind == unix.CLONE_NEWNS {
			pl.Program.Add(unix.SYS_SETNS, pl.fds.keptFD(j.kept), uintptr(j.kind))
		}
	}
}

// DeniesSetgroups reports whether groups cannot be set in the new
// user namespace. That goes down to namespaces below one that denies it, and
// for all without a map of gids. (user_namespaces(7))
func DeniesSetgroups(n *command.Namespaces) bool {
	if n.Fresh&unix.CLONE_NEWUSER == 0 {
		return false
	}
	own, _ := os.ReadFile("/proc/self/setgroups")
	return len(n.GIDMaps) == 0 || os.Geteuid() != 0 || string(own) == "deny\n"
}

// checkMapped refuses a new user namespace in which this process's ids have no
// number, if the program would keep them: it would still be this user for every
// file outside.
func (pl *Plan) checkMapped() error {
	ids, n := &pl.Command.IDs, &pl.Command.Namespaces
	for _, x := range [...]struct {
		method, kind string
		isSet        bool
		maps         []command.IDMap
		own          [2]int
	}{
		{"SetUID", "uid", ids.SetUID, n.UIDMaps, [2]int{os.Getuid(), os.Geteuid()}},
		{"SetGID", "gid", ids.SetGID, n.GIDMaps, [2]int{os.Getgid(), os.Getegid()}},
	} {
		for _, id := range x.own {
			inMap := func(m command.IDMap) bool { return id >= m.HostID && id-m.HostID < m.Size }
			if !x.isSet && len(x.maps) > 0 && !slices.ContainsFunc(x.maps, inMap) {
				return &command.CallError{Method: x.method + "Map", Err: fmt.Errorf("this process's %s %d is in no map, so the program would keep it outside and have none inside; it needs %s", x.kind, id, x.method)}
			}
		}
	}
	return nil
}

// inOtherUserNamespace reports whether the child has a new user namespace, or
// joins one.
func (pl *Plan) inOtherUserNamespace() bool {
	n := &pl.Command.Namespaces
	return n.Fresh&unix.CLONE_NEWUSER != 0 || n.Joins(unix.CLONE_NEWUSER)
}
