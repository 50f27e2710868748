//go:build linux

package run

import "golang.org/x/sys/unix"

// stopTimers stops the interval timers of this process, that of a CPU profile
// among them, which execve would leave to the program, and a fork not.
// (setitimer(2); timers of timer_create(2) do not survive an execve.) It
// returns a function that lets them go on where they were.
func stopTimers() (undo func()) {
	var left [unix.ITIMER_PROF + 1]unix.Itimerval
	for i := range left {
		which := unix.ItimerWhich(i)
		wasSet := isSet(which)
		// cannot fail
		left[i], _ = unix.Setitimer(which, unix.Itimerval{})
		if wasSet && left[i].Value == (unix.Timeval{}) && left[i].Interval != (unix.Timeval{}) {
			left[i].Value.Usec = 1 // it was about to fire
		}
	}
	return func() {
		for which, t := range left {
			if t.Value != (unix.Timeval{}) {
				_, _ = unix.Setitimer(unix.ItimerWhich(which), t)
			}
		}
	}
}

// isSet reports whether a timer runs. Of one that is about to fire the time
// that is left is read as nothing, but not twice: it is over by then, and that
// is read as a tick.
func isSet(which unix.ItimerWhich) bool {
	for range 10 {
		if t, err := unix.Getitimer(which); err == nil && t.Value != (unix.Timeval{}) {
			return true
		}
	}
	return false
}
