package spawn

import (
	"errors"
	"os"
	"strconv"
	"syscall"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/secure"
	"golang.org/x/sys/unix"
)

// refused is a clone that the kernel, or a seccomp policy, does not have.
type refused struct{ error }

// isRefusal reports whether a helper may do what a clone could not.
func (r *run) isRefusal(errno syscall.Errno) bool {
	if r.opts.executor == forkedHelper || secure.Mode() || r.options.Namespaces != 0 {
		return false
	}
	return errno == unix.ENOSYS || r.options.Cgroup == 0 && (errno == unix.EPERM || errno == unix.EINVAL)
}

// forkHelper starts a helper by way of package syscall.
func (r *run) forkHelper() (child.Child, error) {
	n := &r.cmd.namespaces
	sys := &syscall.SysProcAttr{Cloneflags: uintptr(r.forkedNamespaces())}
	if n.fresh&unix.CLONE_NEWUSER != 0 {
		sys.UidMappings, sys.GidMappings = sysMaps(n.uidMaps), sysMaps(n.gidMaps)
		sys.GidMappingsEnableSetgroups = !deniesSetgroups(n)
		for c := range lastCap() + 1 {
			sys.AmbientCaps = append(sys.AmbientCaps, uintptr(c))
		}
	}
	fork := func() (int, error) {
		return syscall.ForkExec(selfExe, r.helperArgs(), &syscall.ProcAttr{Env: os.Environ(), Files: r.helper.files, Sys: sys})
	}
	pidfd := -1
	sys.PidFD = &pidfd // as soon as there is a pid: other code may wait for it, and another process get it
	pid, err := fork()
	if err == unix.ENOSYS || err == unix.EPERM || err == unix.EINVAL { // which a seccomp policy may say to that
		sys.PidFD, pidfd = nil, -1
		pid, err = fork()
	}
	if err != nil {
		call := "fork"
		if flags := r.forkedNamespaces(); flags != 0 {
			call = "clone(" + program.CloneFlags(flags) + ")"
		}
		return child.Child{}, &startFailure{Op: call + " and execve(" + strconv.Quote(selfExe) + ")", Path: r.path, Err: err}
	}
	if pidfd < 0 {
		pidfd, err = unix.PidfdOpen(pid, 0)
	}
	if err != nil { // the helper finds its pipes closed
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return child.Child{}, r.failed(os.NewSyscallError("pidfd_open("+strconv.Itoa(pid)+", 0)", err))
	}
	return child.Child{PID: pid, PIDFD: pidfd}, nil
}

func sysMaps(maps []idMap) (s []syscall.SysProcIDMap) {
	for _, m := range maps {
		s = append(s, syscall.SysProcIDMap(m))
	}
	return s
}

// silence is what is known of a helper that has neither come to its execve nor said why not.
type silence struct{ step, text string }

// listen returns nil for a helper that has come to its execve, or has said why not. Another one may have lost the status pipe to its hook, and be about
// to find that out.
func (r *run) listen() *silence {
	spoken := func() bool {
		_, failed := r.prog.Failed()
		return failed || r.helper.report.Execs()
	}
	if spoken() || waitReadable(r.handle.fd, maxBlockedTime) && spoken() {
		return nil
	}
	if r.helper.report.Passed() {
		if r.endedBySignal() { // as a child without a helper may; that one's end is the program's too
			return nil
		}
		return &silence{"helper", "the child has ended before its program"}
	}
	return &silence{r.hookStep(), "the child has not come back from it"}
}

// hookFailure is what a hook has returned, in another process.
func hookFailure(message string, errno syscall.Errno) error {
	if errno == 0 {
		return errors.New(message)
	}
	return &causes{message, []error{errno}}
}
