// Package spawn starts child processes that get what you name and nothing else,
// except the environment, which they inherit until you change it.
//
// There is no shell. A child has its standard streams (/dev/null unless set),
// the files passed by name, default signal dispositions and an empty signal
// mask. From the first call about the environment on, it has only the variables
// that were added; see [Command.AddEnv]. If something you asked for cannot be
// done, the program does not run, and the error names the step that failed.
//
// To run a program to its end:
//
//	err := spawn.New("mkfs.ext4", "-q", device).Run(ctx)
//
// To have its output:
//
//	out, err := spawn.New("lsblk", "--json").AddEnvPassCommon().Output(ctx)
//
// To start it in the background, as an ordinary user who gets no
// privileges back:
//
//	p, err := spawn.New("/usr/libexec/frobnicated").
//		SetUser("frob").SetNoNewPrivs().Start(ctx)
//
// A [Command] is built by chained calls that cannot fail, and run by one that
// can. The first bad call is kept and reported then. A [Process] is a program
// that runs. The parent, here and in all that follows, is your process: the one
// that calls this package.
//
// # Index by topic
//
//   - Arguments: [New], [Command.AddArg], [Command.AddArgf],
//     [Command.AddArgPair], [Command.AddSecretArg], [Command.SetArgv0]
//   - Environment: [Command.AddEnv], [Command.AddEnvf], [Command.AddEnvString],
//     [Command.AddSecretEnv], [Command.AddEnvPassAll],
//     [Command.AddEnvPassCommon], [Command.AddEnvPassAllowSUID],
//     [Command.AddEnvPassBlockSUID], [Command.AddEnvXDG], [Command.ClearEnv]
//   - Streams: [Command.SetInput], [Command.SetStdin], [Command.SetStdout],
//     [Command.SetStderr], [Command.SetOutputBuffer], [Command.SetErrorBuffer],
//     [Command.MergeStderr], [Command.InheritStdio], [Command.PipeStdin],
//     [Command.PipeStdout], [Command.PipeStderr]
//   - Terminals: [Command.SetPTY], [Command.SetControllingTTY], [Process.PTY],
//     [Process.Resize]
//   - Descriptors: [Command.PassFD], [Command.PassFDAs],
//     [Command.SetSendBuffer], [Command.AddListenFD]
//   - Files: [Command.SetWorkingDirectory], [Command.SetUmask],
//     [Command.SetChroot]
//   - Users and groups: [Command.SetUser], [Command.SetUID], [Command.SetGID],
//     [Command.SetGroups], [Command.KeepGroups]
//   - Capabilities: [Command.ClearCaps], [Command.AllowCap],
//     [Command.SetBoundingCaps], [Command.SetAmbientCaps],
//     [Command.SetSecurebits]
//   - Confinement: [Command.SetNoNewPrivs], [Command.SetLandlock],
//     [Command.SetSeccompFilter], [Command.SetSELinuxLabel],
//     [Command.SetAppArmorProfile], [Command.SetSmackLabel],
//     [Command.SetMACOptional], [Command.SetMemoryDenyWriteExecute],
//     [Command.SetPersonality], [Command.SetKeyring]
//   - Namespaces: [Command.SetNamespaces], [Command.JoinNamespace],
//     [Command.SetUIDMap], [Command.SetGIDMap]
//   - Limits: [Command.SetRlimit], [Command.SetMaxFiles],
//     [Command.SetMaxProcesses], [Command.SetMaxCoreSize],
//     [Command.SetMaxMemLock], [Command.SetCgroup], [Command.SetOOMScoreAdj],
//     [Command.SetCoredumpFilter], [Command.SetTransparentHugepages]
//   - Scheduling: [Command.SetNice], [Command.SetScheduler],
//     [Command.SetCPUAffinity], [Command.SetNUMAPolicy],
//     [Command.SetIOPriority], [Command.SetTimerSlack], [Command.SetRunAlone],
//     [Command.SetRunAmong]
//   - Signals and sessions: [Command.SetSession], [Command.SetProcessGroup],
//     [Command.SetIgnoredSignals], [Command.SetParentDeathSignal],
//     [Command.SetKillMode], [Command.SetGracePeriod]
//   - Handshake, hooks, pid files, daemons: [Command.RequireHandshake],
//     [Process.HandshakeWait], [Process.HandshakeNotify], [RegisterHook],
//     [Command.SetPreExecHook], [Command.SetPidFile], [Command.Daemonize]
//   - Running: [Run], [Command.Run], [Command.RunStatus], [Command.Output],
//     [Command.CombinedOutput], [Command.Lines], [Command.Records],
//     [Command.RunRegex], [Command.Start], [Command.Exec]
//   - The process: [Process.PID], [Process.Wait], [Process.Done],
//     [Process.Status], [Process.Signal], [Process.Abort], [Process.Stdin],
//     [Process.Stdout], [Process.Stderr], [Process.String]
//   - Looking at a command: [Command.String], [Command.Path], [Command.Args],
//     [Command.Env], [Command.Dir], [Command.Explain], [Command.Clone]
//   - Observing and guarding: [SetLogger], [SetObserver], [Command.SetLogger],
//     [Command.SetObserver], [SetPolicy]
//   - Dry runs: [SetDryRun], [WithDryRun], [DryRunCall]
//
// # What a child does not get
//
// Things a child gets by accident elsewhere, and not here:
//
//   - A shell. Arguments are not split, expanded or interpreted, so nothing in
//     them has to be quoted.
//   - Descriptors. Whatever the parent has open, with or without close-on-exec,
//     the child has its three standard streams and the files that were passed
//     by name.
//   - Signal dispositions and a signal mask. A signal that the parent ignores,
//     SIGPIPE for example, does not stay ignored in the child, which may rely
//     on it to end.
//   - Input or output that is left to chance. A stream about which nothing was
//     said is /dev/null.
//   - A program of the current directory, because PATH has an empty or
//     relative element.
//   - Less than was asked for. Nothing you asked for is silently skipped. What
//     cannot be done is an error, and then no child is left.
//   - Go code between clone and exec, unless you ask for it by
//     [Command.SetPreExecHook].
//   - The parent's memory, once the child becomes somebody else or waits: with
//     other ids, capabilities, labels, namespaces, a cgroup or a handshake for
//     example. It leaves that memory by a static executable of a few hundred
//     bytes, the stub. A plain child shares it until exec.
//   - A copy of the parent's memory, unless a policy refuses to execute the
//     stub. So a start does not hold up the other goroutines. It costs the same
//     however much memory or however many files the parent has.
//
// # Running a program
//
// The error of [Command.Run] says which program it was, how it ended, and the
// last line that it wrote to standard error.
//
// [Command.Output] returns the output all at once. To have it line by line as
// it comes:
//
//	for line, err := range spawn.New("journalctl", "--follow").Lines(ctx) {
//		…
//	}
//
// [Command.Records] is for records that end otherwise, such as those of find
// -print0. [Command.RunRegex] is for the parts of lines that match.
// [Command.RunStatus] is for programs whose exit code is an answer.
// [Command.Exec] replaces your process.
//
// # What the program gets
//
// To confine a service, and hand it a socket and a secret that appears neither
// among its arguments nor in its environment:
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
// The methods can be called in any order. The child applies them in a fixed
// order: privileges near the end, confinement last. To see it beforehand, one
// system call a line:
//
//	text, err := cmd.Explain()
//
// # A program in the background
//
// A [Process] can be waited for from any goroutine. It can be signalled safely
// even if its pid has been reused. [Process.Abort] ends it. With
// [Command.RequireHandshake] the child stops before it becomes the program.
// Then you can do what has to come first, such as to tell others of the pid:
//
//	p, err := cmd.RequireHandshake().Start(ctx)
//	…
//	err = p.HandshakeWait(ctx) // all is applied but what confines
//	…
//	err = p.HandshakeNotify() // the program runs
//
// [Command.SetPidFile] makes a file with the pid, which the program holds
// locked. [Command.Daemonize] makes the program a daemon, which outlives the
// parent. What no method does can be done by a Go function that runs in the
// child; see [RegisterHook].
//
// # Errors
//
// There are three types of errors, one for each way to fail:
//
//   - [*StartError]: the program could not be started. The error names the step
//     that failed, such as chdir("/var/lib/frob") or
//     execve("/usr/bin/nonesuch"). A missing privilege is reported in the same
//     way, usually as EPERM. If a function of [SetPolicy] refuses a command,
//     its error is wrapped in one too.
//   - [*ExitError]: the program was started, and did not exit with code 0, or
//     something outside it went wrong. The error has its [Status] and the end
//     of its standard error.
//   - [*CallError]: a method was called in a way that cannot work, or asks for
//     what this machine does not have. The error names the method.
//
// All three unwrap to the cause. So [errors.Is] works with [io/fs.ErrNotExist],
// [os/exec.ErrNotFound], an errno, the error of a context, or that of a reader
// or writer.
//
// A few errors are of none of these types:
//
//   - On systems other than Linux, what would run a program returns an error
//     that wraps [errors.ErrUnsupported].
//   - [Process.Signal] returns [os.ErrProcessDone] if the program has ended. It
//     and [Process.Abort] return an [*os.SyscallError] if the parent may not
//     signal the program.
//   - [Process.HandshakeWait] returns the error of its context if that
//     ends first.
//   - [Process.Resize], and reading, writing and closing the ends of pipes and
//     terminals, return errors of package os, mostly an [*os.PathError].
//
// # Contexts
//
// When its context ends, a program gets SIGTERM, and SIGKILL after the grace
// period ([Command.SetGracePeriod]). The error then wraps the context's.
// [Command.SetKillMode] extends this to the program's process group, or to all
// its descendants.
//
// A context that ends bounds every call. A pipe that a grandchild still holds
// open is given up a moment after both the program and the context have ended.
// A program that cannot be ended is given up after the grace period and two
// seconds: one that is frozen, another user's by now, or in a system call that
// no signal interrupts. The error then says that it runs on, and the library
// waits for it in the background. Not bounded is what the parent itself does
// before there is a child, such as a look into a directory of PATH that does
// not answer. A daemon ([Command.Daemonize]) outlives the context
// of its start.
//
// # Who owns what
//
// Files that a command is given stay yours. Keep them open until the running
// call, or [Command.Start], has returned, and close them then. With
// [CloseParent] that call closes them.
//
// Readers, writers and buffers are in use until the running call or
// [Process.Wait] returns. The ends of pipes on a Process are yours to close.
// All else, the child included, is the library's: a Process that is forgotten
// leaves no zombie.
//
// # Observing and guarding
//
// [SetLogger] logs what runs, with secrets hidden. [SetObserver] tells an
// [Observer] of each start and end. Both are for the whole process;
// [Command.SetLogger] and [Command.SetObserver] do so for one command.
//
// [SetPolicy] is asked about each command before anything starts. It can refuse
// the command or tighten it.
//
// # Systems
//
// Programs are started directly on Linux 5.9 and later, on amd64 and arm64. A
// helper starts them on older kernels, from 5.4 on, and on other processors
// except MIPS. It also starts every command with a hook. The helper is the
// parent's executable, started anew, which takes a millisecond and more.
//
// SPAWN_EXECUTOR=helper in the environment forces the helper, for debugging.
// With stub every child goes by the stub, and with copy it has a copy of
// the parent's memory. The page docs/kernels.md says when which is chosen.
// A process that runs setuid or with file capabilities (AT_SECURE) ignores
// that, and has no helper. So on processors other than amd64 and arm64 it can
// start nothing.
//
// On other systems the package can be built. What would run a program reports
// [errors.ErrUnsupported] there, except in a dry run.
// [Command.SetSeccompFilter] exists on Linux only, so code that uses it does
// not build elsewhere.
//
// # Unit tests
//
// In a dry run, a function stands in for programs; see [SetDryRun] and
// [WithDryRun]. So code that starts programs can be tested anywhere without
// starting any. Package spawntest makes that a script of what is expected, or
// a recording.
package spawn
