package spawn

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func (pl *plan) checkNamespaces() error {
	n := &pl.cmd.namespaces
	if !pl.cmd.daemon { // which gets them when it is forked
		pl.options.Namespaces = uint64(n.fresh)
	}
	pl.options.OwnMemory = ownMemory(pl.cmd, pl.opts.executor)
	if pl.opts.executor == forkedHelper && n.joins(unix.CLONE_NEWUSER|unix.CLONE_NEWTIME) {
		return &badCall{"JoinNamespace", fmt.Errorf("no child can be cloned here, and a helper has threads, which may not join a user or time namespace: %w", errors.ErrUnsupported)}
	}
	for _, j := range n.joined {
		fd, err := dupFile(j.file)
		if err != nil {
			return &startFailure{Op: "JoinNamespace", Path: pl.path, Err: err}
		}
		pl.childEnds = append(pl.childEnds, fd)
		switch {
		case j.kind != unix.CLONE_NEWPID:
			pl.fds.joined = append(pl.fds.joined, keptNamespace{j.kind, pl.fds.keep(fd)})
		case pl.cmd.daemon:
			pl.fds.daemonPIDNS = pl.fds.keep(fd)
		default:
			pl.joinedPID = fd
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
func (pl *plan) joinNamespaces() {
	if pl.opts.executor == forkedHelper && pl.cmd.namespaces.joins(unix.CLONE_NEWNS) { // which a process may whose directory and root no thread shares
		pl.prog.Add(unix.SYS_UNSHARE, unix.CLONE_FS)
	}
	for _, j := range pl.fds.joined {
		pl.prog.Add(unix.SYS_SETNS, pl.fds.keptFD(j.kept), uintptr(j.kind))
	}
	if pl.cmd.namespaces.fresh&unix.CLONE_NEWNS != 0 {
		pl.prog.Add(unix.SYS_MOUNT, 0, pl.prog.CString("/"), 0, unix.MS_REC|unix.MS_SLAVE, 0)
	}
}

// deniesSetgroups reports whether groups cannot be set in the new user namespace.
func deniesSetgroups(n *namespaces) bool {
	return n.fresh&unix.CLONE_NEWUSER != 0 && os.Geteuid() != 0
}
