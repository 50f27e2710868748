package spawn

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// checkTree makes the child's cgroup, or finds that the child is to be a subreaper.
func (pl *plan) checkTree() error {
	c := pl.cmd
	if c.killMode != killTree || pl.mode == inPlace { // nobody is there to end a program that replaces this process
		return nil
	}
	pl.tree = &tree{kill: -1}
	parent := c.attrs.cgroup
	if parent == "" {
		parent = ownCgroup()
	}
	if !pl.opts.noTreeCgroup && parent != "" && pl.tree.makeCgroup(parent) && (pl.opts.executor != forkedHelper || pl.tree.takesProcesses()) {
		fd, err := openAboveStreams(pl.tree.cgroup, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return pl.failed(err)
		}
		pl.childEnds = append(pl.childEnds, fd)
		pl.options.Cgroup = fd
		pl.tree.kill, err = openAboveStreams(pl.tree.cgroup+"/cgroup.kill", unix.O_WRONLY)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return pl.failed(err)
		}
		return nil
	}
	if err := unix.Access("/proc/thread-self/children", unix.F_OK); err != nil {
		return &startFailure{Op: "KillTree without a cgroup v2: access(/proc/thread-self/children)", Path: pl.path, Err: err}
	}
	return nil
}

// adoptOrphans makes the child a subreaper, which it stays when it execs.
func (pl *plan) adoptOrphans() {
	if pl.tree != nil && pl.tree.cgroup == "" {
		pl.prog.Add(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1)
	}
}
