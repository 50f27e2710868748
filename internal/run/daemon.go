//go:build linux

package run

import "golang.org/x/sys/unix"

// daemonEnded reports whether this is a daemon, and has ended.
func (r *run) daemonEnded() bool { return r.p.Daemon && waitReadable(r.handle.fd, 0) }

// signalDaemonsGroup signals the group of a daemon, which is not this process's
// child: its pid may be another's at any time.
//
// Preconditions: r.p.Mu is held.
func (r *run) signalDaemonsGroup(sig unix.Signal) error {
	const processGroup = 1 << 2 // PIDFD_SIGNAL_PROCESS_GROUP
	err := unix.PidfdSendSignal(r.handle.fd, sig, nil, processGroup)
	if err != unix.EINVAL {
		return err
	}
	// Before Linux 6.9. As long as the daemon has not been waited for the group
	// is its own.
	if err := r.handle.signal(0); err != nil {
		return err
	}
	return unix.Kill(-r.p.PID, sig)
}
