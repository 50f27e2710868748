package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/virspawn/spawn/internal/vmtest/wire"
)

// Orphans of every run become children of this process, so a wait for any child
// is the only kind of wait here: one for a single process, as os/exec does it,
// would leave zombies or race with whoever collects them.

// execute does one run, passes what it writes to output, and leaves no process
// behind. The event it returns tells how the run ended; an error means that the
// guest itself is broken.
func execute(run *wire.Run, output func([]byte) error) (wire.Event, error) {
	start := time.Now()
	pid, stdout, err := startProcess(run)
	if err != nil {
		return wire.Event{Status: err.Error()}, nil
	}
	defer stdout.Close()
	copied := make(chan error, 1)
	go func() { copied <- copyOutput(stdout, output) }()
	// Only for a run that its own time limit did not end.
	watchdog := time.AfterFunc(run.Limit, killAll)
	status, err := wait(pid)
	inTime := watchdog.Stop()
	elapsed := time.Since(start)
	if err != nil {
		return wire.Event{}, err
	}
	killAll()
	if err := reap(); err != nil {
		return wire.Event{}, err
	}
	end := wire.Event{Status: describe(status), Elapsed: elapsed}
	if !inTime {
		end.Status = fmt.Sprintf("%s: still running after %v", end.Status, run.Limit)
	}
	return end, <-copied
}

// runSetup runs one shell command line; what it writes goes to the console.
func runSetup(line string) error {
	run := &wire.Run{
		Args:  []string{"/bin/busybox", "sh", "-c", line},
		Env:   []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
		Dir:   "/",
		Limit: time.Minute,
	}
	end, err := execute(run, func(data []byte) error {
		_, err := os.Stderr.Write(data)
		return err
	})
	if err == nil && end.Status != wire.Passed {
		err = fmt.Errorf("setup %q: %s", line, end.Status)
	}
	return err
}

// startProcess starts the run in a session of its own, without a terminal, with
// one pipe for stdout and stderr. The caller closes the end that it returns.
func startProcess(run *wire.Run) (pid int, stdout *os.File, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	defer w.Close()
	// So that the user may open /dev/stdout again.
	if err := w.Chown(int(run.UID), int(run.GID)); err != nil {
		r.Close()
		return 0, nil, err
	}
	pid, err = syscall.ForkExec(run.Args[0], run.Args, &syscall.ProcAttr{
		Dir:   run.Dir,
		Env:   run.Env,
		Files: []uintptr{null.Fd(), w.Fd(), w.Fd()},
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Credential: &syscall.Credential{Uid: run.UID, Gid: run.GID, Groups: run.Groups},
		},
	})
	if err != nil {
		r.Close()
		return 0, nil, fmt.Errorf("start %s: %w", run.Args[0], err)
	}
	return pid, r, nil
}

// batch is how long to let output gather in the pipe: to send every line for
// itself costs more time than most tests take.
const batch = 20 * time.Millisecond

// copyOutput passes everything read to output, until every writer is gone.
func copyOutput(r io.Reader, output func([]byte) error) error {
	buf := make([]byte, 64<<10) // as much as a pipe holds
	for {
		time.Sleep(batch)
		n, err := r.Read(buf)
		if n > 0 {
			if err := output(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// killAll kills every process but this one.
func killAll() {
	_ = unix.Kill(-1, unix.SIGKILL) // ESRCH: there is none
}

// wait collects orphans until the process has ended.
func wait(pid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait4: %w", err)
		case got == pid:
			return status, nil
		}
	}
}

// reap collects every process that is left.
func reap() error {
	for {
		_, err := unix.Wait4(-1, nil, 0, nil)
		switch {
		case err == nil || errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD):
			return nil
		default:
			return fmt.Errorf("wait4: %w", err)
		}
	}
}

// describe says how a process ended, in the words of os.ProcessState.
func describe(status unix.WaitStatus) string {
	text := fmt.Sprintf("exit status %d", status.ExitStatus())
	if status.Signaled() {
		text = "signal: " + status.Signal().String()
	}
	if status.CoreDump() {
		text += " (core dumped)"
	}
	return text
}
