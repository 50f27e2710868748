//go:build linux

package plan

import (
	"errors"
	"fmt"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/tree"
	"golang.org/x/sys/unix"
)

// checkDaemon refuses a daemon that a helper cannot fork, and what this process
// could not get hold of once it is forked.
func (pl *Plan) checkDaemon() error {
	c := pl.Command
	if pl.Mode != InPlace && (c.Daemon || c.Namespaces.Joins(unix.CLONE_NEWPID)) {
		if err := tree.OpenRefusal(); err != nil {
			return pl.Failed(err)
		}
	}
	if c.Daemon && pl.Options.Executor == ForkedHelper && c.Namespaces.Fresh&unix.CLONE_NEWUSER != 0 {
		return &command.CallError{Method: "Daemonize", Err: fmt.Errorf("no child can be cloned here, and a helper makes no user namespace for a daemon: %w", errors.ErrUnsupported)}
	}
	return nil
}

// checkData refuses data that nobody would be left to write.
func (pl *Plan) checkData() error {
	method := ""
	switch {
	case len(pl.Jobs) == 0:
	case pl.Mode == InPlace:
		method = "Exec"
	case pl.Command.Daemon:
		method = "Daemonize"
	}
	if method == "" {
		return nil
	}
	j := &pl.Jobs[0]
	setter := "SetSendBuffer"
	if j.Stream == command.Stdin {
		setter = "SetInput"
	}
	// it is full, and nobody has read
	holds, _ := unix.IoctlGetInt(j.FD, unix.TIOCINQ)
	return command.ErrTooLong(method, setter, holds+len(j.Data), holds)
}
