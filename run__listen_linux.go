package spawn

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// writeListenPID fills in the child's pid, as the child knows it.
func (r *run) writeListenPID(pid int) error {
	n := &r.cmd.namespaces
	switch {
	case n.fresh&unix.CLONE_NEWPID != 0:
		pid = 1
	case n.joins(unix.CLONE_NEWPID):
		path := "/proc/" + strconv.Itoa(pid) + "/status"
		status, err := os.ReadFile(path)
		if err != nil {
			return &startFailure{Op: listenPID, Path: r.path, Err: err}
		}
		_, line, _ := bytes.Cut(status, []byte("\nNSpid:"))
		line, _, _ = bytes.Cut(line, []byte("\n"))
		pids := bytes.Fields(line)
		if len(pids) == 0 {
			return &startFailure{Op: listenPID, Path: r.path, Err: errors.New("no NSpid in " + path)}
		}
		pid, err = strconv.Atoi(string(pids[len(pids)-1]))
		if err != nil {
			return &startFailure{Op: listenPID, Path: r.path, Err: err}
		}
	}
	r.prog.SetPID(pid)
	return nil
}
