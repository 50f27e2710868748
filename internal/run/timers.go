//go:build linux

package run

import "golang.org/x/sys/unix"

// stopTimers stops the interval timers of this process, that of a CPU profile
// among them, which execve would leave to the program, and a fork not.
// (setitimer(2); timers of timer_create(2) do not survive an execve.) It
// returns a function that lets them go on where they were.
func stopTimers() (undo func()) {
	var left [unix.ITIMER_PROF + 1]unix.Itimerval
	for which := range left {
		// cannot fail
		left[which], _ = unix.Setitimer(unix.ItimerWhich(which), unix.Itimerval{})
	}
	return func() {
		for which, t := range left {
			if t == (unix.Itimerval{}) {
				continue
			}
			if t.Value == (unix.Timeval{}) {
				t.Value.Usec = 1 // less was left, and 0 would stop it
			}
			_, _ = unix.Setitimer(unix.ItimerWhich(which), t)
		}
	}
}
