//go:build linux

package plan

import (
	"errors"
	"io/fs"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/tree"
	"golang.org/x/sys/unix"
)

// checkTree makes the child's cgroup, or finds that the child is to be
// a subreaper.
func (pl *Plan) checkTree() error {
	c := pl.Command
	if c.KillMode != command.KillTree || pl.Mode == InPlace {
		// Nobody is there to end a program that replaces this process.
		return nil
	}
	if err := tree.Refusal(); err != nil {
		return pl.Failed(err)
	}
	pl.Tree = &tree.Tree{KillFile: -1}
	parent := c.Attributes.Cgroup
	if parent == "" {
		parent = tree.OwnCgroup()
	}
	if !pl.Options.NoTreeCgroup && parent != "" && pl.Tree.MakeCgroup(parent) && (pl.Options.Executor != ForkedHelper || pl.Tree.TakesProcesses()) {
		fd, err := descriptor.Open(pl.Tree.Cgroup, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return pl.Failed(err)
		}
		pl.childEnds = append(pl.childEnds, fd)
		pl.cgroup = fd
		pl.Tree.KillFile, err = descriptor.Open(pl.Tree.Cgroup+"/cgroup.kill", unix.O_WRONLY)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return pl.Failed(err)
		}
		return nil
	}
	if err := unix.Access("/proc/thread-self/children", unix.F_OK); err != nil {
		return &command.StartError{Op: "KillTree without a cgroup v2: access(/proc/thread-self/children)", Path: pl.Path, Err: err}
	}
	return nil
}

// adoptOrphans makes the child a subreaper, which it stays when it execs.
func (pl *Plan) adoptOrphans() {
	if pl.Tree != nil && pl.Tree.Cgroup == "" {
		pl.Program.Add(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1)
	}
}
