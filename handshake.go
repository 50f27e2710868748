package spawn

import (
	"context"
	"errors"
	"strings"

	"github.com/virspawn/spawn/internal/helper"
	"github.com/virspawn/spawn/internal/process"
)

// RequireHandshake makes the child stop before it runs the program, when
// everything else is applied.
//
// Only no_new_privs, Landlock, the seccomp filter and execve are left then. The
// caller can do what has to be done before the program runs: look at the child
// in /proc, tell others its pid, write its limits elsewhere. The default is not
// to stop.
//
// [Command.Start] returns when there is a child. [Process.HandshakeWait] waits
// until it has stopped, and [Process.HandshakeNotify] lets the program run. The
// running call must be [Command.Start]; all others return an error.
//
// The child waits without a thread of the parent, and does not share its
// memory. So a debugger, an out-of-memory kill or a write to the child's
// oom_score_adj does not reach the parent. The child is not dumpable: to trace
// it needs CAP_SYS_PTRACE. `ps -f` shows it as spawn-stub, or with a hook as
// spawn-helper.
//
// It ends without running the program when the parent or the context ends, and
// on [Process.Abort] or [Process.Wait] before the notification. The error is
// then a [*StartError]. If a [Process] is dropped before the notification, its
// child waits until the context or the parent ends.
//
// All signals but SIGKILL and SIGSTOP are blocked in the child until the
// program runs, and then take effect. If the child has a hook
// ([Command.SetPreExecHook]), or needs a helper for another reason, SIGHUP,
// SIGINT, SIGQUIT, SIGABRT and SIGTERM end it at once.
//
// A program file that is being written when it is to run fails at once
// (ETXTBSY). Other commands try a few times; here the child that was looked at
// is the only one.
//
// Like virCommandRequireHandshake.
func (c *Command) RequireHandshake() *Command {
	c.want.Handshake = true
	return c
}

var errNoHandshake = errors.New("the command has no RequireHandshake")

// HandshakeWait waits until the child has stopped before its program, with
// everything applied.
//
// If the child cannot get there, the error is the [*StartError] that says why,
// and there is no child left, unless that says so. When ctx ends, HandshakeWait
// returns the error of ctx and the child stays as it is. HandshakeWait can be
// called again, any number of times.
//
// It is an error for a command without [Command.RequireHandshake].
//
// Like virCommandHandshakeWait.
func (p *Process) HandshakeWait(ctx context.Context) error {
	needContext(ctx)
	g := p.run.Gate
	if g == nil {
		return &CallError{"HandshakeWait", errNoHandshake}
	}
	select {
	case <-g.Ready:
	default:
		select {
		case <-g.Ready:
		case <-ctx.Done():
			return process.ContextError(ctx)
		}
	}
	select {
	case <-g.Started:
		return public(g.Err)
	default:
		return nil
	}
}

// HandshakeNotify lets the child run its program, and returns when the program
// runs: when execve can no longer fail.
//
// If the program cannot run, the error is the [*StartError] that says why. If
// HandshakeNotify is called before the child reaches the stop, the child does
// not stop.
//
// It is an error to call it twice, or for a command without
// [Command.RequireHandshake].
//
// Like virCommandHandshakeNotify.
func (p *Process) HandshakeNotify() error {
	g := p.run.Gate
	if g == nil {
		return &CallError{"HandshakeNotify", errNoHandshake}
	}
	if err := g.Notify(); err != nil {
		return &CallError{"HandshakeNotify", err}
	}
	<-g.Started
	return public(g.Err)
}

// Hook is a function that a child can run before its program: see
// [RegisterHook].
type Hook struct{ name string }

// RegisterHook names a function for [Command.SetPreExecHook].
//
// It must be called while your program is initialised, each time that it
// starts: by a package-level variable,
//
//	var markReady = spawn.RegisterHook("mark-ready",
//		func(arg string) error { … })
//
// or by an init function. The child runs your program's executable anew. As
// soon as its initialisation comes to this call, the function runs there, and
// then the child's program. The main function is never reached, and need not
// call this package. The function cannot use what comes later in the order of
// initialisation.
//
// The call must not depend on the arguments, which differ in the child, nor on
// the environment or a file, which may have changed. A child that does not come
// to the call fails with a [*StartError] as soon as it is seen to be in the
// main function. By then main may have run for a millisecond, or for a tenth of
// the time that the initialisation took.
//
// RegisterHook panics if it is called later, if the name is empty or was
// registered before, and if the function is nil.
func RegisterHook(name string, f func(arg string) error) Hook {
	helper.Register(name, f)
	return Hook{name}
}

// SetPreExecHook has the child call a registered function with this argument,
// for what no other method can do.
//
// The default is no hook. The function runs when the child has the descriptors
// that the program will have, and limits, scheduling and root directory are
// set. Labels, credentials and all that follows come after it, so it still has
// the parent's privileges.
//
// It is an ordinary Go function, in a process of its own with a Go runtime. Of
// the parent it has only the environment, the argument and the descriptors. A
// process that the function starts must not outlive the function.
//
// The function runs on the main thread, and what belongs to a thread is right
// there only. Other goroutines, and os/exec and spawn in them, may have
// capabilities that the parent's thread has dropped.
//
// With [Command.JoinNamespace] of a mount namespace, the function is in it, and
// so is what it starts itself. The goroutines that it starts are not: they have
// the parent's mounts, root and working directory. Where no child can be cloned
// directly (before Linux 5.9, and on processors other than amd64 and arm64),
// that holds for all namespaces that are joined but that of pids.
//
// If the function returns an error, panics, exits ([os.Exit]), or
// closes a descriptor that it has not opened, the command fails with
// a [*StartError] that says so. The StartError also unwraps to an errno in the
// function's error.
//
// It runs at most once in each call that runs the command. So a program file
// that is being written is not tried again, as it is for other commands: the
// call returns ETXTBSY for execve when the function has done its work already.
// Call again only if the function may run again.
//
// It may take any time. The end of the context ends it. SIGHUP, SIGINT,
// SIGQUIT, SIGABRT and SIGTERM end it, as they do any Go program; the other
// signals wait until the program runs.
//
// The child starts the parent's executable (/proc/self/exe) before it runs the
// program, which takes a millisecond or more. If that has not begun to
// initialise this library within 10 seconds, the child is killed, and the
// command fails with a [*StartError] that says so, whatever its context does:
// the emulator that the kernel executes it by does not work, for example, or an
// init function of another package does not return. So does a child that is
// stopped, or frozen in its cgroup, for so long before that.
//
// The child knows by an argument of the form spawn-helper:24, wherever that
// stands, and by the descriptor that it names, that it is not the program a
// second time. If both are lost, by an emulator or a wrapper, the variable
// SPAWN_HELPER, which is in the environment of such a child only, has it end
// before its main function, with exit code 126.
//
// If the parent runs setuid or with file capabilities, its commands cannot have
// a hook: the running call returns an error. Nor can one that joins a user
// namespace, whose root could look at the process of the function.
// [Command.Exec] with a hook is always an error: the calling process can do the
// same before it calls Exec.
//
// Like virCommandSetPreExecHook.
func (c *Command) SetPreExecHook(h Hook, arg string) *Command {
	if h.name == "" {
		c.fail("SetPreExecHook", "the hook is not registered")
	}
	c.checkText("SetPreExecHook", "argument", arg)
	c.want.Hook, c.want.HookArg = h.name, arg
	return c
}

// SetPidFile makes a file that holds the child's pid, and that the child keeps
// locked as long as it lives.
//
// The file holds the pid as the parent sees it, and a line feed. The default is
// no file. The file has its name before the program runs, and before the stop
// of [Command.RequireHandshake] is reached. Under its name it always has its
// whole content.
//
// The lock is that of fcntl(2), F_SETLK with F_RDLCK. It excludes every lock
// for writing, so who asks for one (F_SETLK or F_GETLK with F_WRLCK) sees that
// the file is taken, and by whom. The program cannot have such a lock itself,
// for its descriptor cannot write the file.
//
// The mode is 0600: whoever may read a file can lock it too, and so keep the
// next program from starting. If others are to read it, change the mode when
// [Command.Start] has returned. Then, as with a file that another program has
// made, the lock of somebody who may only read it counts only while there is
// a process with the pid in it, or if the lock is that of a process in another
// pid namespace. In a directory that others may write, they can take the name
// of the file, or that of the lock file that is then made beside it.
//
// A relative path is taken from the parent's working directory. The file is
// made as the parent's user, whatever credentials the child gets. A symbolic
// link is not followed. If the program cannot be started, the file is removed.
// When the program ends, the file stays and is stale.
//
// If another process has locked the file, the running call returns an error
// that names that process and wraps EAGAIN. It is an error too if the parent
// has locked it, or if the file exists and the parent may not write to it. A
// file that nobody has locked is stale, and replaced, whatever pid it holds.
//
// The lock stays because a descriptor of the file stays open in the program:
// the lowest from 3 on that is not passed otherwise. The program gives up its
// lock if it closes all descriptors that it does not know, or if it opens the
// file by its name and closes it again. A process that the program forks does
// not have the lock, but can take one by the descriptor.
//
// Before Linux 5.11, where the change is not backported, execve in a process
// with threads gives up the lock. A child by way of a helper, such as one with
// [Command.SetPreExecHook], does not keep it there, and its file looks stale.
//
// Like virCommandSetPidFile and systemd's PIDFile=; see fcntl(2).
func (c *Command) SetPidFile(path string) *Command {
	if path == "" || strings.HasSuffix(path, "/") {
		c.fail("SetPidFile", "%q is not the path of a file", path)
	}
	c.checkText("SetPidFile", "path", path)
	c.want.PidFile = path
	return c
}

// Daemonize makes the program a daemon, which outlives the parent.
//
// [Command.Start] returns when the daemon runs, or with the [*StartError] that
// says why it does not. The default is a child that the parent waits for.
//
// The daemon's own parent is process 1, or the nearest ancestor of yours that
// is a subreaper (PR_SET_CHILD_SUBREAPER in prctl(2)). The daemon has a session
// without a leader, so no terminal that it opens becomes its controlling one.
// It never shares the parent's memory.
// With [Command.SetSession] it leads a session of its own. New namespaces and a
// pid namespace that is joined are the daemon's and not those of the child that
// forks it.
//
// It starts in / unless [Command.SetWorkingDirectory] says otherwise. A
// relative program is still the one in the parent's working directory. As for
// every command, the standard streams are /dev/null unless said otherwise, and
// all other descriptors are closed. The umask is the parent's unless
// [Command.SetUmask] is called.
//
// As long as your process lives, the [Process] has the daemon's pid, closes
// [Process.Done] when the daemon has ended, and signals it through a pidfd.
// Only the daemon's own parent is told how it ends: [Process.Wait] returns nil,
// also after [Process.Abort], and [Process.Status] has exit code -1, not known.
// If your process is that parent, as process 1 or a subreaper, both tell as for
// any command, and the library waits for the daemon.
//
// The context counts until the program runs; with [Command.RequireHandshake],
// until the notification has been followed. If it ends before, starting fails.
// Later it does nothing: [Process.Abort] ends a daemon. With [KillGroup], what
// the daemon leaves of its group gets SIGKILL if your process is its parent, or
// on Linux 6.9 and later. Before, an Abort may in rare cases signal a group
// that is not the daemon's: see KillGroup.
//
// What needs the parent for as long as the daemon lives is an error of the
// running call:
//   - a reader or writer, or a buffer for output; an [*os.File], even the end
//     of a pipe, is allowed
//   - a pipe with its end on the Process
//   - more data to read than a pipe holds (64 KiB)
//
// These are also errors: [Command.SetParentDeathSignal],
// [Command.SetControllingTTY], [Command.SetPTY], and any running call but
// Start. Nobody waits for a daemon, and Exec has no child.
//
// Where only a helper can be started (see [Command.SetPreExecHook]), the helper
// starts a second one, which becomes the daemon. There a new user namespace for
// the daemon is an error that wraps [errors.ErrUnsupported].
//
// Like virCommandDaemonize; see daemon(7).
func (c *Command) Daemonize() *Command {
	c.want.Daemon = true
	return c
}
