//go:build linux

package run

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"github.com/virspawn/spawn/internal/command"
	"golang.org/x/sys/unix"
)

// writeListenPID fills in the child's pid, as the child knows it.
func (r *run) writeListenPID(pid int) error {
	n := &r.Command.Namespaces
	switch {
	case n.Fresh&unix.CLONE_NEWPID != 0:
		pid = 1
	case n.Joins(unix.CLONE_NEWPID):
		path := "/proc/" + strconv.Itoa(pid) + "/status"
		status, err := os.ReadFile(path)
		if err != nil {
			return &command.StartError{Op: command.ListenPID, Path: r.Path, Err: err}
		}
		_, line, _ := bytes.Cut(status, []byte("\nNSpid:"))
		line, _, _ = bytes.Cut(line, []byte("\n"))
		pids := bytes.Fields(line)
		if len(pids) == 0 {
			return &command.StartError{Op: command.ListenPID, Path: r.Path, Err: errors.New("no NSpid in " + path)}
		}
		pid, err = strconv.Atoi(string(pids[len(pids)-1]))
		if err != nil {
			return &command.StartError{Op: command.ListenPID, Path: r.Path, Err: err}
		}
	}
	r.Program.SetPID(pid)
	return nil
}
