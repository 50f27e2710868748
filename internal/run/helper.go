//go:build linux

package run

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/helper"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/secure"
	"golang.org/x/sys/unix"
)

// refused is a clone that the kernel, or a seccomp policy, does not have.
type refused struct{ error }

// isRefusal reports whether a helper may do what a clone could not.
func (r *run) isRefusal(errno syscall.Errno) bool {
	if r.Options.Executor == plan.ForkedHelper || secure.Mode() || r.CloneOptions.Namespaces != 0 {
		return false
	}
	return errno == unix.ENOSYS || r.CloneOptions.Cgroup == 0 && (errno == unix.EPERM || errno == unix.EINVAL)
}

// forkHelper starts a helper by way of package syscall.
func (r *run) forkHelper() (child.Child, error) {
	n := &r.Command.Namespaces
	sys := &syscall.SysProcAttr{Cloneflags: uintptr(r.ForkedNamespaces())}
	if n.Fresh&unix.CLONE_NEWUSER != 0 {
		sys.UidMappings, sys.GidMappings = sysMaps(n.UIDMaps), sysMaps(n.GIDMaps)
		sys.GidMappingsEnableSetgroups = !plan.DeniesSetgroups(n)
		for c := range plan.LastCap() + 1 {
			sys.AmbientCaps = append(sys.AmbientCaps, uintptr(c))
		}
	}
	fork := func() (int, error) {
		return syscall.ForkExec(plan.SelfExe, r.HelperArgs(), &syscall.ProcAttr{Env: helper.Environ(), Files: r.Helper.Files, Sys: sys})
	}
	pidfd := -1
	// The pidfd comes as soon as there is a pid: other code may wait for it,
	// and another process get it.
	sys.PidFD = &pidfd
	pid, err := fork()
	if err == unix.ENOSYS || err == unix.EPERM || err == unix.EINVAL {
		// A seccomp policy may say one of these to the pidfd.
		sys.PidFD, pidfd = nil, -1
		pid, err = fork()
	}
	if err != nil {
		call := "fork"
		if flags := r.ForkedNamespaces(); flags != 0 {
			call = "clone(" + program.CloneFlags(flags) + ")"
		}
		return child.Child{}, &command.StartError{Op: call + " and execve(" + strconv.Quote(plan.SelfExe) + ")", Path: r.Path, Err: err}
	}
	if pidfd < 0 {
		pidfd, err = unix.PidfdOpen(pid, 0)
	}
	if err != nil { // the helper finds its pipes closed
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return child.Child{}, r.Failed(os.NewSyscallError("pidfd_open("+strconv.Itoa(pid)+", 0)", err))
	}
	return child.Child{PID: pid, PIDFD: pidfd}, nil
}

// sysMaps returns the maps as package syscall wants them.
func sysMaps(maps []command.IDMap) (s []syscall.SysProcIDMap) {
	for _, m := range maps {
		s = append(s, syscall.SysProcIDMap(m))
	}
	return s
}

// maxMute is how long a helper may take to run the first of its Go code. On an
// emulated processor, or a machine with much to do, that may be seconds.
var maxMute = 30 * time.Second

// expectSign ends the helper if so many helpers have not begun to run by then:
// what the kernel executes this program by, such as an emulator, does not work,
// or the initialisation of another package does not end.
func (r *run) expectSign(signs int) {
	r.p.Mu.Lock()
	defer r.p.Mu.Unlock()
	r.stopSign()
	report := r.Helper.Report
	var timer *time.Timer
	timer = time.AfterFunc(maxMute, func() {
		r.p.Mu.Lock()
		defer r.p.Mu.Unlock()
		if r.sign != timer || report.Signs() >= signs {
			return
		}
		r.mute = true
		_ = r.handle.signal(unix.SIGKILL) // it may have ended
		if r.StatusF.File != nil {
			// What it has started may have the other end of the pipe.
			r.StatusF.Close()
		}
	})
	r.sign = timer
}

// stopSign ends the wait for a sign.
// Preconditions: p.Mu is held.
func (r *run) stopSign() {
	if r.sign != nil {
		r.sign.Stop()
		r.sign = nil
	}
}

// silence is what is known of a helper that has neither come to its execve nor
// said why not.
type silence struct{ step, text string }

// maxSilence is how long a helper may take, once it has lost the status pipe,
// to find that out and say so. On an emulated processor it may take a tenth of
// a second.
const maxSilence = 300 * time.Millisecond

// listen returns nil for a helper that has come to its execve, or has said why
// not. Another one may have lost the status pipe to its hook, and be about to
// find that out.
func (r *run) listen() *silence {
	spoken := func() bool {
		_, failed := r.Program.Failed()
		return failed || r.Helper.Report.Execs()
	}
	if spoken() || waitReadable(r.handle.fd, maxSilence) && spoken() {
		return nil
	}
	switch {
	case r.Helper.Report.Signs() == 0:
		return &silence{"helper", "the child has ended before it was a helper"}
	case r.Helper.Report.Passed():
		if r.endedBySignal() {
			// A child without a helper may end so too, and its end is
			// the program's.
			return nil
		}
		return &silence{"helper", "the child has ended before its program"}
	}
	return &silence{r.HookStep(), "the child has not come back from it"}
}

// hookFailure is what a hook has returned, in another process.
func hookFailure(message string, errno syscall.Errno) error {
	message = command.OneLine(message, command.MaxShown)
	if errno == 0 {
		return errors.New(message)
	}
	return &command.Causes{Text: message, Errs: []error{errno}}
}
