// Package spawn starts child processes that get what the caller says and nothing else.
//
// What it does not do comes first, because each is a way in which a child gets what nobody meant to give it:
//
//   - It runs no shell. Arguments are not split, expanded or interpreted, so nothing in them has to be quoted.
//   - It passes on no descriptors. Whatever this process has open, with or without close-on-exec, the child has its three
//     standard streams and the files that were passed by name.
//   - It passes on no signal dispositions and no signal mask. A signal that this process ignores, SIGPIPE for
//     example, does not stay ignored in the child, which may rely on it to end.
//   - It leaves no input or output to chance. A stream about which nothing was said is /dev/null.
//   - It runs no program of the current directory because PATH has an empty or relative element.
//   - It leaves out nothing silently that was asked for. What cannot be done is an error, and then no child is left.
//   - It runs no Go code between clone and exec, unless asked to ([Command.SetPreExecHook]), and, but for a few attributes
//     that say so, does not copy this process's memory. So a start does not hold up the other goroutines, and costs the
//     same however much memory or however many files this process has.
//
// The environment is the one thing that is inherited until something is said about it; see [Command.AddEnv].
//
// # Running a program
//
// A [Command] is built by chained calls that cannot fail, and run by one that can. The first bad call is kept and reported
// then. To run a program to its end:
//
//	err := spawn.New("mkfs.ext4", "-q", device).Run(ctx)
//
// The error says which program it was, how it ended, and the last line that it wrote to standard error. For the
// output, all at once or line by line as it comes:
//
//	out, err := spawn.New("lsblk", "--json").AddEnvPassCommon().AddEnv("LC_ALL", "C").Output(ctx)
//
//	for line, err := range spawn.New("journalctl", "--follow").Lines(ctx) {
//		…
//	}
//
// [Command.Records] is for records that end otherwise, such as those of find -print0, and [Command.RunRegex] for the parts of
// lines that match. [Command.RunStatus] is for programs whose exit code is an answer. [Command.Exec] replaces this process.
//
// # What the program gets
//
// To confine a service, and hand it a socket and a secret that appears neither among its arguments nor in its
// environment:
//
//	cmd := spawn.New("/usr/libexec/frobnicated").
//		ClearEnv().
//		SetUser("frob").
//		SetWorkingDirectory("/var/lib/frob").
//		SetUmask(0o027).
//		SetMaxFiles(1024).
//		SetMaxCoreSize(0).
//		SetSession().
//		AllowCap(capability.CAP_NET_BIND_SERVICE).
//		SetNoNewPrivs().
//		SetLandlock(spawn.Landlock{Paths: paths}).
//		SetSeccompFilter(filter)
//	cmd.AddArgf("--listen-fd=%d", cmd.PassFD(socket))
//	cmd.AddArgf("--password-fd=%d", cmd.SetSendBuffer(password))
//	p, err := cmd.Start(ctx)
//
// The methods can be called in any order: what the child does has an order of its own, privileges last but one and confinement
// last. To see it beforehand, one system call a line:
//
//	text, err := cmd.Explain()
//
// # A program in the background
//
// p is a [Process]: it can be waited for from any goroutine, signalled without the risk to hit another process that has got its
// pid, and ended by [Process.Abort]. With [Command.RequireHandshake] the child stops before it becomes the program, so that the caller can
// do what has to come first, such as to tell others of the pid:
//
//	p, err := cmd.RequireHandshake().Start(ctx)
//	…
//	err = p.HandshakeWait(ctx) // all is applied but what confines
//	…
//	err = p.HandshakeNotify() // the program runs
//
// [Command.SetPidFile] makes a file with the pid, which the program holds locked, and [Command.Daemonize] makes it a daemon, which outlives
// this process. What no method does can be done by a Go function that runs in the child: see [RegisterHook].
//
// # Errors
//
// A program that could not be started gives a [*StartError], which names the step that failed, such as
// chdir("/var/lib/frob") or execve("/usr/bin/nonesuch"); so does a privilege that this process lacks, mostly with EPERM. One that ended otherwise than with exit code 0 gives an [*ExitError] with its
// [Status] and the end of its standard error. Both unwrap to the cause, so that [errors.Is] works with
// [io/fs.ErrNotExist], [os/exec.ErrNotFound], an errno, the error of a context, or that of a reader or writer. Any other error is a bad call of a
// method, and names it.
//
// # Contexts
//
// When its context ends, a program gets SIGTERM, after the grace period ([Command.SetGracePeriod]) SIGKILL; the error then
// wraps the context's. [Command.SetKillMode] extends this to the program's process group, or to all its descendants. No call waits forever for a
// pipe that some grandchild still holds open: when both the program and the context have ended, it is given up after a moment. A daemon, see
// [Command.Daemonize], outlives the context of its start.
//
// # Who owns what
//
// Files that a command is given stay the caller's, who keeps them open until the running call, or [Command.Start], has
// returned, and closes them; with [CloseParent] that call closes them. Readers, writers and buffers are in use until the running
// call or [Process.Wait] returns. The ends of pipes on a Process are the caller's to close. All else, the child
// included, is the library's: a Process that is forgotten leaves no zombie.
//
// # Observing and guarding
//
// [SetLogger] logs what runs, with secrets hidden, and [SetObserver] tells of each start and end, for the whole process; methods of [Command] with the same
// names do so for one command, by a [log/slog.Logger] and an [Observer]. [SetPolicy] is asked about each command before anything starts, and can refuse it or tighten it.
//
// # Systems
//
// Programs are started directly on Linux 5.9 and later, on amd64 and arm64. Older kernels, from 5.4 on, other processors but MIPS, and commands with a hook go by
// way of a helper, this program's executable started anew, which takes a millisecond and more. SPAWN_EXECUTOR=helper in the environment forces
// it, for debugging; a process that runs setuid or with file capabilities (AT_SECURE) ignores that. On other systems the package can be
// built, and whatever would run a program reports [errors.ErrUnsupported], except in a dry run.
//
// # Unit tests
//
// In a dry run, see [SetDryRun] and [WithDryRun], a function stands in for programs, so that code that starts them can be tested anywhere without starting
// any. Package spawntest makes that a script of what is expected, or a recording.
package spawn
