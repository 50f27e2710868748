package spawn

import (
	"bytes"
	"errors"
	"os"
	"strconv"
)

// addListenPID adds LISTEN_PID to the program. Its value is filled in when the pid is known.
func (pl *plan) addListenPID() (addr uintptr) {
	addr = pl.prog.PIDText(listenPID + "=")
	if pl.mode == inPlace {
		pl.prog.SetPID(os.Getpid())
	}
	return addr
}

// writeListenPID fills in the child's pid, as the child knows it.
func (pl *plan) writeListenPID(pid int) error {
	n := &pl.cmd.namespaces
	switch {
	case n.fresh&PIDNamespace != 0:
		pid = 1
	case n.joins(PIDNamespace):
		path := "/proc/" + strconv.Itoa(pid) + "/status"
		status, err := os.ReadFile(path)
		if err != nil {
			return &StartError{Op: listenPID, Path: pl.path, Err: err}
		}
		_, line, _ := bytes.Cut(status, []byte("\nNSpid:"))
		line, _, _ = bytes.Cut(line, []byte("\n"))
		pids := bytes.Fields(line)
		if len(pids) == 0 {
			return &StartError{Op: listenPID, Path: pl.path, Err: errors.New("no NSpid in " + path)}
		}
		pid, err = strconv.Atoi(string(pids[len(pids)-1]))
		if err != nil {
			return &StartError{Op: listenPID, Path: pl.path, Err: err}
		}
	}
	pl.prog.SetPID(pid)
	return nil
}
