package spawn

import "errors"

// Daemonize makes the program a daemon: [Command.Start] returns when it runs, or with the [*StartError] that says why it does not, and it
// outlives this process. Its parent is process 1, or the nearest ancestor of this process that is a subreaper (PR_SET_CHILD_SUBREAPER in
// prctl(2)). It has a session without a leader, so that no terminal that it opens becomes its controlling one; with [Command.SetSession] it
// leads a session of its own. It starts in / unless [Command.SetWorkingDirectory] says otherwise; a relative program is the one
// in this process's working directory all the same. As for every command the standard streams are /dev/null unless said otherwise and all other
// descriptors are closed; the umask is this process's unless [Command.SetUmask] is called.
//
// The [Process] has the daemon's pid, closes [Process.Done] when the daemon has ended, and signals it through a pidfd, as long as this process
// lives. How the daemon ends only its parent is told: [Process.Wait] returns nil, also after [Process.Abort], and [Process.Status] has exit code -1,
// not known. Where this process is the parent, as process 1 or a subreaper, both tell as for any command, and the library waits for the daemon.
//
// The context counts until the program runs, with [Command.RequireHandshake] until the notification has been followed; its end then ends the
// start. Later it does nothing: [Process.Abort] ends a daemon. With [KillGroup] what the daemon leaves of its group gets SIGKILL where this
// process is the parent, or on Linux 6.9 and later.
//
// What needs this process for as long as the daemon lives is an error of the running call: a reader or writer, a buffer for
// output, a pipe with its end on the Process, and more data to read than a pipe holds (64 KiB). An [*os.File], be it the end of a pipe, is
// fine. So are errors [Command.SetParentDeathSignal], [Command.SetControllingTTY], [Command.SetPTY], and all running calls but Start: nobody
// waits for a daemon, and Exec has no child.
//
// Where only a helper can be started, see [Command.SetPreExecHook], that one starts a second helper, which becomes the daemon. A new user namespace for it is an
// error there that wraps [errors.ErrUnsupported].
//
// New namespaces and a pid namespace that is joined are the daemon's and not those of the child that forks it. (virCommandDaemonize, daemon(7))
func (c *Command) Daemonize() *Command {
	c.daemon = true
	return c
}

// checkStartOnly refuses in a call that returns no Process what needs one.
func (c *Command) checkStartOnly(method string) error {
	switch {
	case c.handshake:
		return &badCall{method, errors.New("RequireHandshake needs a Process to shake hands with; use Start")}
	case c.daemon:
		return &badCall{method, errors.New("Daemonize is for a program that nobody waits for; use Start")}
	case c.attrs.pty != nil:
		return &badCall{method, errors.New("the terminal of SetPTY has its other end on a Process; use Start")}
	}
	return nil
}

// checkAlone refuses streams that need this process at the other end.
func checkAlone(method string, streams [3]stream) error {
	for n, s := range streams {
		switch s.kind {
		case streamDefault, streamNull, streamInherit, streamFile, streamMerge, streamData:
		default:
			return &badCall{method, errors.New("nobody would be left at the other end of " + streamNames[n])}
		}
	}
	return nil
}

// directory returns the directory in which the program starts; "" is where this process is.
func (c *Command) directory() string {
	if !c.hasDir && c.daemon {
		return "/"
	}
	return c.dir
}
