package helper

import (
	"encoding/binary"
	"syscall"

	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// Report is a page of memory that a helper shares with the process that started
// it, until the helper execs or ends. It needs no system call, which a seccomp
// filter may refuse, and no descriptor, which a hook may close.
type Report struct{ page []byte }

const reportSize = 4096

// Offsets in the page.
const (
	atState   = 0 // one of the states
	atOp      = 8
	atErrno   = 16
	atLength  = 24 // of the message
	atPID     = 32 // of what the helper has forked
	atSigns   = 40 // how many helpers have begun
	atMessage = 48
)

const (
	stateNone   = iota
	statePassed // no hook is left to be called
	stateExecs  // execve comes next
	stateFailed
)

// NewReport returns a report and the descriptor by which the helper finds it.
// The caller closes both.
func NewReport() (*Report, int, error) {
	page, fd, err := descriptor.SharedPage("spawn-report", reportSize)
	if err != nil {
		return nil, -1, err
	}
	return &Report{page}, fd, nil
}

func openReport(fd int) (*Report, error) {
	page, err := descriptor.MapShared(fd, reportSize)
	if err != nil {
		return nil, err
	}
	return &Report{page}, nil
}

// Close gives the memory back.
func (r *Report) Close() { _ = unix.Munmap(r.page) } // ours, and whole

func (r *Report) set(at int, v uint64) { binary.NativeEndian.PutUint64(r.page[at:], v) }

func (r *Report) get(at int) uint64 { return binary.NativeEndian.Uint64(r.page[at:]) }

// fork says what the helper has forked.
func (r *Report) fork(pid int) { r.set(atPID, uint64(pid)) }

// Forked returns the pid of the process that a helper has forked, 0 if there
// is none.
//
// Preconditions: the helper has ended.
func (r *Report) Forked() int { return int(r.get(atPID)) }

// sign says that a helper has begun. A daemon is the second one.
func (r *Report) sign() { r.set(atSigns, r.get(atSigns)+1) }

// Signs returns how many helpers have begun to run.
func (r *Report) Signs() int { return int(r.get(atSigns)) }

// pass says that no hook is left to be called.
func (r *Report) pass() { r.set(atState, statePassed) }

// exec says that execve comes next.
func (r *Report) exec() { r.set(atState, stateExecs) }

// fail says what has failed. A long message is cut.
func (r *Report) fail(f program.Failure) {
	r.set(atOp, uint64(f.Op))
	r.set(atErrno, uint64(f.Errno))
	r.set(atLength, uint64(copy(r.page[atMessage:], f.Message)))
	r.set(atState, stateFailed)
}

// Passed reports whether the helper has got past its hook, if there is one, or
// has said why not.
//
// Preconditions: the helper has exec'ed or ended, or has closed its end of the
// status pipe.
func (r *Report) Passed() bool { return r.get(atState) != stateNone }

// Execs reports whether nothing but execve is left to do, or has been done, or
// nothing at all will be.
func (r *Report) Execs() bool { return r.get(atState) >= stateExecs }

// Failure returns what has failed, if anything has.
//
// Preconditions: as for Passed.
func (r *Report) Failure() (f program.Failure, failed bool) {
	if r.get(atState) != stateFailed {
		return f, false
	}
	n := min(r.get(atLength), reportSize-atMessage)
	return program.Failure{
		Op:      int(r.get(atOp)),
		Errno:   syscall.Errno(r.get(atErrno)),
		Message: string(r.page[atMessage : atMessage+n]),
	}, true
}
