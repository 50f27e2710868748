//go:build linux

package run

import (
	"runtime"
	"strconv"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"golang.org/x/sys/unix"
)

// inPIDNamespace calls start on a thread whose children are born in the pid
// namespace that the command joins. That stays so, and therefore the thread
// ends. But a signal for the end of the parent would come with the end of
// the thread. Where the child wants that signal, the thread waits for the
// child's end.
func (r *run) inPIDNamespace(start func(), ch *child.Child) error {
	result := make(chan error)
	go func() {
		// Without an unlock, the thread ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Setns(r.JoinedPID, unix.CLONE_NEWPID); err != nil {
			result <- &command.StartError{Op: "setns(" + strconv.Itoa(r.JoinedPID) + ", CLONE_NEWPID)", Path: r.Path, Err: err}
			return
		}
		start()
		pid := ch.PID
		var pidfd int
		var err error
		if pid > 0 && r.Command.Attributes.DeathSignal != 0 {
			pidfd, err = unix.FcntlInt(uintptr(ch.PIDFD), unix.F_DUPFD_CLOEXEC, command.Stderr+1)
		}
		result <- nil
		if pidfd > 0 && err == nil {
			waitEnd(pidfd)
			descriptor.Close(pidfd)
		}
	}()
	return <-result
}

// waitEnd blocks the thread until a process has ended.
func waitEnd(pidfd int) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for fds[0].Revents == 0 {
		if _, err := unix.Ppoll(fds, nil, nil); err != nil && err != unix.EINTR {
			return
		}
	}
}

// writeMaps writes the maps of the child's user namespace.
func (r *run) writeMaps(pid int) error {
	n := &r.Command.Namespaces
	proc := "/proc/" + strconv.Itoa(pid) + "/"
	files := []struct{ name, text string }{
		{"uid_map", command.MapText(n.UIDMaps)},
		{"setgroups", ""},
		{"gid_map", command.MapText(n.GIDMaps)},
	}
	if len(n.GIDMaps) > 0 && plan.DeniesSetgroups(n) {
		files[1].text = "deny"
	}
	for _, f := range files {
		if f.text == "" {
			continue
		}
		if err := writeOnce(proc+f.name, f.text); err != nil {
			return &command.StartError{Op: "write " + strconv.Quote(f.text) + " to " + proc + f.name, Path: r.Path, Err: err}
		}
	}
	return nil
}

// writeOnce writes to a file of /proc, which takes all in one write or nothing.
func writeOnce(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer descriptor.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}
