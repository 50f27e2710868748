package spawn

import (
	"bytes"
	"errors"
	"os"
	"strconv"
)

// addListenEnv adds the variables for sockets from index i of envp on. LISTEN_PID is filled in when the pid is known.
func (pl *plan) addListenEnv(envp uintptr, i int) {
	if pl.cmd.listen == nil {
		return
	}
	p := pl.prog
	for _, s := range pl.cmd.listenEnv() {
		p.SetPointer(envp, i, p.CString(s))
		i++
	}
	p.SetPointer(envp, i, p.PIDText(listenPID+"="))
	if pl.mode == inPlace {
		p.SetPID(os.Getpid())
	}
}

// listenVars is the number of variables that addListenEnv adds.
func (c *Command) listenVars() int {
	if c.listen == nil {
		return 0
	}
	return len(c.listenEnv()) + 1
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
