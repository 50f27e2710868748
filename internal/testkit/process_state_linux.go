package testkit

import (
	"syscall"

	"github.com/virspawn/spawn/internal/plan"
	"golang.org/x/sys/unix"
)

// IgnoreSignal makes this process ignore a signal. The Go runtime does
// not know.
func IgnoreSignal(sig syscall.Signal) { plan.SetAction(sig, plan.Action{Handler: plan.SigIgn}) }

// ResetSignal gives a signal its default action.
func ResetSignal(sig syscall.Signal) { plan.SetAction(sig, plan.Action{}) }

// IsIgnored reports whether this process ignores a signal.
func IsIgnored(sig syscall.Signal) bool { return plan.GetAction(sig).Handler == plan.SigIgn }

// DumpableFlag returns this process's flag, which a test may set by
// SetDumpableFlag. (PR_SET_DUMPABLE in prctl(2))
func DumpableFlag() int {
	flag, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return -1
	}
	return flag
}

// SetDumpableFlag sets the flag.
func SetDumpableFlag(flag uintptr) { _ = unix.Prctl(unix.PR_SET_DUMPABLE, flag, 0, 0, 0) }
