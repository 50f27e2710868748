package helper

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/secure"
	"golang.org/x/sys/unix"
)

// process is the helper that this process is, from its initialisation to its
// end; nil where it is none.
var process *running

// running is an image that is being run.
type running struct {
	*Image
	report *Report
	image  int // its descriptor
	start  int // the call to begin with
	// The call that forks a daemon; -1 without, and in the daemon.
	fork  int
	hook  int         // the call of a hook; -1 without
	found atomic.Bool // it is registered
}

// Where this process was started as a helper, it runs its program now, or,
// where that calls a hook, when the hook is registered. Only an unprivileged
// user's own privileges are at stake: a process with more of them than the user
// who has started it is no helper.
func init() {
	m := takeMarks()
	if m.none() {
		return
	}
	if secure.Mode() {
		if m.value != "" && !m.inherited() {
			refuse(errSecure)
		}
		return
	}
	h, err := m.open()
	if err != nil {
		if m.claim() {
			refuse(err)
		}
		return
	}
	h.report.sign()
	if h.fork >= 0 { // the hook is the daemon's
		h.run(nil)
	}
	if h.hook < 0 {
		h.report.pass()
		h.run(nil)
	}
	process = h
	h.watch()
}

var errSecure = errors.New("it runs setuid or with file capabilities")

func open(arg string) (*running, error) {
	number, isDaemon := strings.CutSuffix(arg, daemonMark)
	fd, err := strconv.Atoi(number)
	if err != nil {
		return nil, fmt.Errorf("%q is not the number of a descriptor", arg)
	}
	m, err := readImage(fd)
	if err != nil {
		return nil, err
	}
	h := &running{Image: m, image: fd, fork: -1, hook: -1}
	for i := range m.Program.Len() {
		if _, _, ok := m.Program.Hook(i); ok {
			h.hook = i
		}
		if op := m.Program.At(i); op.Nr == unix.SYS_CLONE && op.Flags&program.Leave != 0 {
			h.fork = i
		}
	}
	if isDaemon {
		if h.fork < 0 {
			return nil, fmt.Errorf("%w: no call forks a daemon", errImage)
		}
		h.start, h.fork = h.fork+1, -1
	}
	if h.report, err = openReport(m.Report); err != nil {
		return nil, err
	}
	if m.Only != nil {
		if err := closeInherited(append(m.Kept, m.Only...)); err != nil {
			return nil, err
		}
	}
	for _, n := range m.Kept {
		if _, err := unix.FcntlInt(uintptr(n), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("descriptor %d: %w", n, err)
		}
	}
	return h, nil
}

// closeInherited closes all that was inherited but what is wanted. What this
// process has opened itself has the close-on-exec flag, which nothing inherited
// can have; execve closes it.
func closeInherited(wanted []int) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil || slices.Contains(wanted, n) {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(n)
		}
	}
	return nil
}

// resume runs the helper's program, if this is the hook that it waits for.
func resume(name string, f func(string) error) {
	if process == nil {
		return
	}
	if wanted, _, _ := process.Program.Hook(process.hook); wanted == name {
		process.found.Store(true)
		process.run(f)
	}
}

// watch ends a helper that has reached the main function: its hook was not
// registered, as it was in the process that started it. An initialisation that
// lasts is looked at less and less often.
func (h *running) watch() {
	// The main goroutine's stack comes first, and what it was called by last.
	stacks, since := make([]byte, 1<<16), time.Now()
	var look func()
	look = func() {
		if h.found.Load() {
			return
		}
		if bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("\nmain.main(")) {
			h.fail(program.Failure{Op: h.hook, Message: "the hook is not registered in the helper"})
		}
		time.AfterFunc(min(max(time.Millisecond, time.Since(since)/10), 100*time.Millisecond), look)
	}
	time.AfterFunc(time.Millisecond, look)
}

// run runs the program, in the main thread. It does not return.
func (h *running) run(hook func(string) error) {
	runtime.LockOSThread()
	// A signal is for the program, when it runs.
	setMask(everySignal)
	h.Program.SetPID(os.Getpid())
	h.fail(runOps(h.Program, h.start, func(i int) bool {
		if i == h.fork {
			h.leave(i)
		}
		if _, arg, ok := h.Program.Hook(i); ok {
			h.call(hook, i, arg)
			return true
		}
		if h.Program.At(i).Nr == unix.SYS_EXECVE {
			h.report.exec()
		}
		return false
	}))
}

// leave does what call i cannot do for a Go process, which has more threads
// than a fork would copy: it starts the daemon as a helper of its own, with the
// same descriptors, which goes on behind that call. It does not return.
func (h *running) leave(i int) {
	setMask(everySignal &^ Faults) // which the daemon inherits
	files := make([]uintptr, slices.Max(h.Only)+1)
	for n := range files {
		files[n] = ^uintptr(0)
	}
	for _, n := range h.Only {
		files[n] = uintptr(n)
	}
	args := Args(h.image)
	args[len(args)-1] += daemonMark
	pid, err := syscall.ForkExec(Executable, args, &syscall.ProcAttr{
		Env: Environ(), Files: files, Sys: &syscall.SysProcAttr{Cloneflags: h.Program.At(i).Args[0]},
	})
	if err != nil {
		f := program.Failure{Op: i}
		_ = errors.As(err, &f.Errno)
		h.fail(f)
	}
	h.report.fork(pid)
	for {
		unix.Exit(0)
	}
}

// fail reports and ends this process.
func (h *running) fail(f program.Failure) {
	f.Op += h.first
	h.report.fail(f)
	for {
		unix.Exit(127)
	}
}

// call calls the hook that is call i. It returns when that was successful.
func (h *running) call(hook func(string) error, i int, arg string) {
	setMask(everySignal &^ Faults)
	returned := false
	defer func() {
		if !returned {
			message := "the hook called runtime.Goexit"
			if v := recover(); v != nil {
				message = fmt.Sprint("panic: ", v)
			}
			h.fail(program.Failure{Op: i, Message: message})
		}
	}()
	err := hook(arg)
	returned = true
	if err == nil {
		err = h.lost()
	}
	if err != nil {
		f := program.Failure{Op: i, Message: err.Error()}
		_ = errors.As(err, &f.Errno)
		h.fail(f)
	}
	setMask(everySignal)
	h.report.pass()
}

// lost returns an error that names a descriptor which the hook has closed, and
// which the program or the report of its failure may need.
func (h *running) lost() error {
	for _, n := range h.Kept {
		if _, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0); err != nil {
			return fmt.Errorf("the hook has closed descriptor %d, which it has not opened", n)
		}
	}
	return nil
}

const everySignal = ^uint64(0)

// Faults are the signals by which the kernel reports a fault of the code
// itself, as a mask. The Go runtime makes panics of them.
const Faults = 1<<(unix.SIGILL-1) | 1<<(unix.SIGTRAP-1) | 1<<(unix.SIGBUS-1) | 1<<(unix.SIGFPE-1) | 1<<(unix.SIGSEGV-1)

// setMask sets the signal mask of this thread.
func setMask(mask uint64) {
	var set unix.Sigset_t
	putMask(set.Val[:], mask)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &set, nil) // cannot fail
}

// putMask puts a mask into words of 32 or 64 bits.
func putMask[T uint32 | uint64](words []T, mask uint64) {
	for i := 0; mask != 0; i++ {
		words[i] = T(mask)
		mask = mask >> (bits.Len64(uint64(^T(0))) - 1) >> 1
	}
}
