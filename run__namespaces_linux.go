package spawn

import (
	"runtime"
	"strconv"

	"github.com/virspawn/spawn/internal/child"
	"golang.org/x/sys/unix"
)

// inPIDNamespace calls start on a thread whose children are born in the pid namespace that the command joins. That stays so, and
// therefore the thread ends; but a signal for the end of the parent would come with the end of the thread, so where the child wants
// that one, the thread waits for its end.
func (r *run) inPIDNamespace(start func(), ch *child.Child) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // without an unlock, the thread ends with the goroutine
		if err := unix.Setns(r.joinedPID, unix.CLONE_NEWPID); err != nil {
			result <- &startFailure{Op: "setns(" + strconv.Itoa(r.joinedPID) + ", CLONE_NEWPID)", Path: r.path, Err: err}
			return
		}
		start()
		pid := ch.PID
		var pidfd int
		var err error
		if pid > 0 && r.cmd.attrs.deathSignal != 0 {
			pidfd, err = unix.FcntlInt(uintptr(ch.PIDFD), unix.F_DUPFD_CLOEXEC, stderr+1)
		}
		result <- nil
		if pidfd > 0 && err == nil {
			waitEnd(pidfd)
			closeFD(pidfd)
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
	n := &r.cmd.namespaces
	proc := "/proc/" + strconv.Itoa(pid) + "/"
	files := []struct{ name, text string }{
		{"uid_map", mapText(n.uidMaps)},
		{"setgroups", ""},
		{"gid_map", mapText(n.gidMaps)},
	}
	if len(n.gidMaps) > 0 && deniesSetgroups(n) {
		files[1].text = "deny"
	}
	for _, f := range files {
		if f.text == "" {
			continue
		}
		if err := writeOnce(proc+f.name, f.text); err != nil {
			return &startFailure{Op: "write " + strconv.Quote(f.text) + " to " + proc + f.name, Path: r.path, Err: err}
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
	defer closeFD(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}
