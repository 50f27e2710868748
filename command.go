package spawn

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/run"
)

// Command says what to run and how. It is built by chained calls, which never
// fail and never start anything. The first bad call is kept, and the call that
// runs the command returns it as a [*CallError].
//
// A Command can run any number of times. It can run in several goroutines at
// once while nothing changes it. The exception is a command that holds
// something that cannot be shared: a reader or a file, a variable for the
// output, or [CloseParent].
//
// The zero value is not usable; see [New].
type Command struct {
	want command.Command

	observer  Observer
	logger    *slog.Logger
	hasLogger bool

	options   run.Options // of its runs: the program as SetPolicy has seen it
	firstFail error
}

// DefaultGracePeriod is the time between SIGTERM and SIGKILL unless
// [Command.SetGracePeriod] sets another.
const DefaultGracePeriod = 5 * time.Second

// New returns a command that runs the program name with args. The program sees
// name and then args as its arguments.
//
// There is no shell: no argument is split, expanded or interpreted.
//
// A name without a slash is looked up in the directories of the parent's PATH
// when the command runs, as [os/exec.LookPath] does. One that is found only
// through a relative element of PATH is refused with [os/exec.ErrDot]. When the
// parent runs setuid, setgid or with file capabilities, an unprivileged user
// may have chosen PATH, and the name is looked up in /bin and /usr/bin only.
//
// A relative name with a slash is taken from the parent's working directory,
// as getcwd(2) has it and not PWD. Together with [Command.SetWorkingDirectory]
// it is refused.
//
// The name /proc/self/exe is the parent's executable. After
// [Command.SetChroot], and in a mount namespace that is joined, it is what that
// path leads to there.
//
// Like virCommandNewArgList.
func New(name string, args ...string) *Command {
	c := &Command{want: command.New(name, DefaultGracePeriod)}
	c.checkText("New", "program name", name)
	if name == "" {
		c.fail("New", "the program's name is empty")
	}
	c.addArgs("New", args)
	return c
}

// fail keeps the first error of a builder method.
func (c *Command) fail(method, format string, a ...any) {
	if c.firstFail == nil {
		c.failErr(method, fmt.Errorf(format, a...))
	}
}

// failErr keeps the first error of a builder method.
func (c *Command) failErr(method string, err error) {
	if c.firstFail == nil {
		c.firstFail = &CallError{method, err}
	}
}

// checkText refuses what cannot be passed to a program. It reports whether s
// is good.
func (c *Command) checkText(method, what, s string) bool {
	if strings.IndexByte(s, 0) < 0 {
		return true
	}
	c.fail(method, "the %s %q has a NUL byte", what, s)
	return false
}

func (c *Command) addArgs(method string, args []string) {
	if len(args) > 0 {
		c.want.Args = slices.Grow(c.want.Args, len(args))
	}
	for _, a := range args {
		c.checkText(method, "argument", a)
		c.want.Args = append(c.want.Args, command.Text{Str: a})
	}
}

// AddArg appends arguments. Each is passed to the program as it is.
//
// Like virCommandAddArg and virCommandAddArgList.
func (c *Command) AddArg(args ...string) *Command {
	c.addArgs("AddArg", args)
	return c
}

// AddArgf appends one argument, formatted as by [fmt.Sprintf].
//
// Like virCommandAddArgFormat.
func (c *Command) AddArgf(format string, a ...any) *Command {
	c.addArgs("AddArgf", []string{fmt.Sprintf(format, a...)})
	return c
}

// AddArgPair appends one argument of the form name=value.
//
// Like virCommandAddArgPair.
func (c *Command) AddArgPair(name, value string) *Command {
	c.addArgs("AddArgPair", []string{name + "=" + value})
	return c
}

// AddSecretArg appends an argument that is a secret. [Command.String],
// [Command.Explain], errors, logs and events show it as ***.
//
// The program still sees it, and so does everyone who may read its
// /proc/PID/cmdline. Prefer [Command.SetSendBuffer].
func (c *Command) AddSecretArg(arg string) *Command {
	if strings.IndexByte(arg, 0) >= 0 {
		// Without the value, which is a secret.
		c.fail("AddSecretArg", "the argument has a NUL byte")
	}
	c.want.Args = append(c.want.Args, command.Text{Str: arg, Secret: true})
	return c
}

// SetArgv0 sets the program's argument 0. The default is the name given to
// [New]. The program that runs stays the same.
//
// An empty one is refused, as [New] refuses an empty name: programs rely on
// argument 0.
func (c *Command) SetArgv0(argv0 string) *Command {
	if argv0 == "" {
		c.fail("SetArgv0", "argument 0 is empty")
	}
	c.checkText("SetArgv0", "argument", argv0)
	c.want.Argv0 = command.Text{Str: argv0}
	return c
}

// SetWorkingDirectory sets the directory in which the program starts. The
// default is the parent's working directory. After [Command.SetChroot] it is
// the new root, and after [Command.Daemonize] it is /.
//
// The child enters it with its new credentials. A relative one is taken from
// the parent's working directory, and after SetChroot from the new root.
//
// A program whose name is relative and has a slash is an error: it could be
// meant to be in the parent's directory, or in dir, as with os/exec.
//
// Like virCommandSetWorkingDirectory; see chdir(2).
func (c *Command) SetWorkingDirectory(dir string) *Command {
	if dir == "" {
		c.fail("SetWorkingDirectory", "the directory is empty")
	}
	c.checkText("SetWorkingDirectory", "directory", dir)
	c.want.Dir, c.want.HasDir = dir, true
	return c
}

// SetUmask sets the program's file mode creation mask, 0 to 0777. The default
// is the parent's mask.
//
// Like virCommandSetUmask; see umask(2).
func (c *Command) SetUmask(mask int) *Command {
	if mask < 0 || mask > 0o777 {
		c.fail("SetUmask", "the mask %#o is not in 0 to 0777", mask)
	}
	c.want.Umask = mask
	return c
}

// SetSession makes the child the leader of a new session and of a new process
// group in it. The session has no controlling terminal. The default is the
// parent's session.
//
// See setsid(2).
func (c *Command) SetSession() *Command {
	c.want.Session = true
	return c
}

// SetProcessGroup makes the child the leader of a new process group, so that
// signals from the terminal do not reach it. The default is the parent's group.
//
// See setpgid(2).
func (c *Command) SetProcessGroup() *Command {
	c.want.OwnGroup = true
	return c
}

// KillMode says what is signalled when a command's context ends or its process
// is aborted.
//
// A child that ends by itself leaves its descendants alone, whatever the mode.
type KillMode int

const (
	// KillProcess, the default, signals the child only.
	KillProcess KillMode = iota
	// KillGroup signals the child's process group. The child is made the leader
	// of a new group, as by [Command.SetProcessGroup].
	//
	// Once the signalled child has ended, what is left of its group
	// gets SIGKILL.
	//
	// Before Linux 6.9, [Process.Abort] of a daemon whose parent your process
	// is not signals the group by its number. If the daemon ends at that very
	// moment and its pid is given anew at once, the signal reaches the group of
	// whoever has got it.
	KillGroup
	// KillTree signals the child and all its descendants. That includes those
	// that have left its session and group and whose parents have ended, as a
	// daemon does.
	//
	// Once the signalled child has ended, what is left of its descendants gets
	// SIGKILL, and their end is awaited for a moment. If they have a cgroup,
	// they are also killed when the context ends while [Command.Run] or
	// [Process.Wait] still waits for their output.
	//
	// The child is born in a cgroup v2 of its own, as by [Command.SetCgroup],
	// and with a memory of its own. The cgroup is made below the directory
	// given there, or below the parent's cgroup, and removed in the end. Where
	// descendants live on, it stays until a later command with KillTree finds
	// it empty, in the parent or in another process. Only what may write the
	// cgroup.procs of another cgroup can leave it: a program of root's, or of
	// the user to whom the parent's cgroup was delegated. Under systemd the
	// service should have Delegate=yes.
	//
	// Where no cgroup can be made, the child is a subreaper: orphans below it
	// become its children. That is so without cgroup v2, without the right to
	// write there, and before Linux 5.7. It finds all descendants as long as
	// the child lives. If the child ends first, in the grace period, it misses
	// those that have lost their parent since the period began. It spares those
	// that the parent may not signal. A program gets away that kills or wakes
	// the child, or that forks for two seconds faster than the parent can look
	// for it. A program that never waits for unknown children collects zombies
	// until it ends. Without /proc/PID/task/TID/children
	// (CONFIG_PROC_CHILDREN), the start fails.
	//
	// docs/lifecycle.md says how each way works.
	//
	// Like systemd's KillMode=control-group; see cgroup.kill in cgroups(7),
	// Linux 5.14, and PR_SET_CHILD_SUBREAPER in prctl(2).
	KillTree
)

// SetKillMode says what is signalled when the context ends or on
// [Process.Abort]. The default is [KillProcess].
//
// Like systemd's KillMode=.
func (c *Command) SetKillMode(m KillMode) *Command {
	if m < KillProcess || m > KillTree {
		c.fail("SetKillMode", "%d is not a kill mode", int(m))
	}
	c.want.KillMode = command.KillMode(m)
	return c
}

// SetGracePeriod sets the time between SIGTERM and SIGKILL when the context
// ends or on [Process.Abort]. The default is [DefaultGracePeriod]. With 0,
// SIGKILL is sent at once and SIGTERM not at all.
//
// Like systemd's TimeoutStopSec=.
func (c *Command) SetGracePeriod(d time.Duration) *Command {
	if d < 0 {
		c.fail("SetGracePeriod", "the period %v is negative", d)
	}
	c.want.Grace = d
	return c
}

// SetIgnoredSignals has the program start with these signals ignored, instead
// of those set before. All others have their default action. The default is to
// ignore none, whatever the parent ignores.
//
// SIGKILL and SIGSTOP cannot be ignored.
//
// Like systemd's IgnoreSIGPIPE=; see signal(7).
func (c *Command) SetIgnoredSignals(sigs ...os.Signal) *Command {
	c.want.Attributes.Ignored = nil
	for _, sig := range sigs {
		n, err := signalNumber(sig)
		switch {
		case err != nil:
			c.failErr("SetIgnoredSignals", err)
		case n == 0 || n == command.SigKill || n == command.SigStop:
			c.fail("SetIgnoredSignals", "the signal %d cannot be ignored", n)
		}
		c.want.Attributes.Ignored = append(c.want.Attributes.Ignored, n)
	}
	return c
}

// SetParentDeathSignal sends the program this signal when the parent ends,
// however it ends. The default is none.
//
// It does not matter which thread of the parent started the program, nor
// whether that thread still lives: a thread that never ends starts such
// children. If the parent ends before the program runs, the program never does.
//
// So what the calling goroutine's thread has by itself, to which it is locked
// ([runtime.LockOSThread]), the child would not have: set it by methods of
// Command. If that thread has other ids, capabilities, securebits,
// no_new_privs, seccomp filters, namespaces, root or working directory, umask,
// processors or memory nodes, or another security label or cgroup, the running
// call returns a [*CallError] that says which. It does so too where /proc is
// not mounted. A Landlock domain of that thread is seen by no_new_privs only,
// and a further filter on Linux 5.9 and later; a session keyring, a nice value
// and a table of descriptors of its own are not seen.
//
// The kernel forgets the signal when the program executes a setuid or setgid
// file, or one with capabilities.
//
// Like [syscall.SysProcAttr].Pdeathsig; see PR_SET_PDEATHSIG in prctl(2).
func (c *Command) SetParentDeathSignal(sig os.Signal) *Command {
	n, err := signalNumber(sig)
	switch {
	case err != nil:
		c.failErr("SetParentDeathSignal", err)
	case n == 0:
		c.fail("SetParentDeathSignal", "0 is not a signal")
	}
	c.want.Attributes.DeathSignal = n
	return c
}

// signalNumber returns the number of a signal. 0 is not a signal, but a way to
// ask whether a process is there.
func signalNumber(sig os.Signal) (int, error) {
	n, ok := sig.(syscall.Signal)
	if !ok || n < 0 || n > command.MaxSignal {
		return 0, fmt.Errorf("%v is not a signal", sig)
	}
	return int(n), nil
}

// Clone returns an independent copy: changing one does not change the other.
//
// Readers, writers, files and variables that were registered are shared. The
// copy of a command that cannot run because of a bad call cannot run either.
func (c *Command) Clone() *Command {
	d := *c
	d.want = *c.want.Clone()
	return &d
}

// String returns the command as a line for a POSIX shell. It has the
// environment, if that was set, the program and the arguments, quoted where
// needed. Secrets are shown as ***. Nothing in this package runs the line.
//
// It is one line that a terminal can be shown. What a terminal would not print,
// or would obey, is escaped, such as $'a\nb' for a line feed: bash, zsh and ksh
// know that, and POSIX since 2024, but older versions of dash do not.
//
// Errors, logs and events omit the environment: it may hold secrets that were
// not marked as such.
//
// Like virCommandToString.
func (c *Command) String() string { return c.want.String() }

// Path returns the program as it was given to [New].
//
// In a function of [SetPolicy] it is the absolute path that will be executed.
// That is the path as found in PATH, or as seen from the parent's working
// directory, or, after [Command.SetChroot], the path in the new root directory.
// In a dry run it is as given to New there too.
//
// The path is not cleaned, and symbolic links are not followed. So
// /usr/sbin/../bin/sh is possible, and what a link leads to may change. A rule
// about directories should compare with [path/filepath.Clean], and allow only
// directories in which nobody else can write.
func (c *Command) Path() string {
	if c.options.Path != "" {
		return c.options.Path
	}
	return c.want.Name
}

// Args returns the arguments as the program gets them, from argument 0 on.
//
// Secrets are there too. For a log, see [Command.String].
func (c *Command) Args() []string {
	args, _ := c.want.Argv()
	return args
}

// Env returns the environment as the program gets it, as name=value. Until the
// first call about the environment, that is all of the parent's variables.
//
// Secrets are there too. LISTEN_PID (see [Command.AddListenFD]) is not, because
// the pid is not known.
func (c *Command) Env() []string {
	var env []string
	c.want.EachVariable(func(pair string, _, _ bool) { env = append(env, pair) })
	return env
}

// Dir returns what was given to [Command.SetWorkingDirectory]. It is empty for
// the parent's own.
func (c *Command) Dir() string { return c.want.Dir }

// Run runs a program to its end, with the whole environment of the parent. It
// is short for New(name, args...).Run(ctx).
//
// Like virRun.
func Run(ctx context.Context, name string, args ...string) error {
	return New(name, args...).Run(ctx)
}
