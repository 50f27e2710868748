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

// Command says what to run and how. It is built by chained calls, none of which can fail or start anything: the
// first bad call is kept and reported by the call that runs the command.
//
// A Command can run any number of times, and from several goroutines at once while nothing changes it, except
// where it holds something that cannot be shared: a reader or a file, a variable for the output, CloseParent.
// The zero value is not usable; see [New].
type Command struct {
	want command.Command

	observer  Observer
	logger    *slog.Logger
	hasLogger bool

	options   run.Options // of its runs: the program as SetPolicy has seen it
	firstFail error
}

// DefaultGracePeriod is the time between SIGTERM and SIGKILL unless [Command.SetGracePeriod] says otherwise.
const DefaultGracePeriod = 5 * time.Second

// New returns a command that runs the program name with args; the program sees name and then args as its
// arguments. A name without a slash is looked up in the directories of this process's PATH when the command runs,
// as [os/exec.LookPath] does; one found only through a relative element of PATH is refused with
// [os/exec.ErrDot]. A relative name with a slash is taken from this process's working directory, whatever
// [Command.SetWorkingDirectory] says.
//
// There is no shell: no argument is split, expanded or interpreted. (virCommandNewArgList)
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

// checkText refuses what cannot be passed to a program. It reports whether s is good.
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

// AddArg appends arguments, each passed to the program as it is. (virCommandAddArg, virCommandAddArgList)
func (c *Command) AddArg(args ...string) *Command {
	c.addArgs("AddArg", args)
	return c
}

// AddArgf appends one argument, formatted as by [fmt.Sprintf]. (virCommandAddArgFormat)
func (c *Command) AddArgf(format string, a ...any) *Command {
	c.addArgs("AddArgf", []string{fmt.Sprintf(format, a...)})
	return c
}

// AddArgPair appends one argument, name=value. (virCommandAddArgPair)
func (c *Command) AddArgPair(name, value string) *Command {
	c.addArgs("AddArgPair", []string{name + "=" + value})
	return c
}

// AddSecretArg appends an argument that is shown as *** by [Command.String] and [Command.Explain], in errors, logs and events. The
// program, and everyone who may read its /proc/PID/cmdline, still sees it: prefer [Command.SetSendBuffer].
func (c *Command) AddSecretArg(arg string) *Command {
	if strings.IndexByte(arg, 0) >= 0 {
		c.fail("AddSecretArg", "the argument has a NUL byte") // without the value
	}
	c.want.Args = append(c.want.Args, command.Text{Str: arg, Secret: true})
	return c
}

// SetArgv0 sets the program's argument 0, which is otherwise the name given to [New]. The program that runs stays
// the same. An empty one is refused by [New] for the name, and here too: programs rely on argument 0.
func (c *Command) SetArgv0(argv0 string) *Command {
	if argv0 == "" {
		c.fail("SetArgv0", "argument 0 is empty")
	}
	c.checkText("SetArgv0", "argument", argv0)
	c.want.Argv0 = command.Text{Str: argv0}
	return c
}

// SetWorkingDirectory sets the directory in which the program starts, entered with the child's new credentials.
// A relative one is taken from this process's working directory. The default is this process's working
// directory. (virCommandSetWorkingDirectory)
func (c *Command) SetWorkingDirectory(dir string) *Command {
	if dir == "" {
		c.fail("SetWorkingDirectory", "the directory is empty")
	}
	c.checkText("SetWorkingDirectory", "directory", dir)
	c.want.Dir, c.want.HasDir = dir, true
	return c
}

// SetUmask sets the program's file mode creation mask, 0 to 0777. The default is this process's mask.
// (virCommandSetUmask, umask(2))
func (c *Command) SetUmask(mask int) *Command {
	if mask < 0 || mask > 0o777 {
		c.fail("SetUmask", "the mask %#o is not in 0 to 0777", mask)
	}
	c.want.Umask = mask
	return c
}

// SetSession makes the child the leader of a new session and of a new process group in it, without a controlling
// terminal. The default is this process's session. (setsid(2))
func (c *Command) SetSession() *Command {
	c.want.Session = true
	return c
}

// SetProcessGroup makes the child the leader of a new process group, so that signals from the terminal do not
// reach it. The default is this process's group. (setpgid(2))
func (c *Command) SetProcessGroup() *Command {
	c.want.OwnGroup = true
	return c
}

// KillMode says what is signalled when a command's context ends or its process is aborted.
type KillMode int

const (
	// KillProcess, the default, signals the child only.
	KillProcess KillMode = iota
	// KillGroup signals the child's process group. The child is made the leader of a new group, as by
	// [Command.SetProcessGroup]. Once the child itself has ended, what is left of its group gets SIGKILL.
	KillGroup
	// KillTree signals the child and all its descendants, also those that have left its session and group and whose parents have
	// ended, as a daemon does. Once the child itself has ended, what is left of them gets SIGKILL. Their end is waited for, for a
	// moment. A child that ends by itself leaves its descendants alone, as with the other modes; if the context then ends while
	// [Command.Run] or [Process.Wait] still waits for their output, they are killed, provided that they have a cgroup.
	//
	// The child is born in a cgroup v2 of its own, as by [Command.SetCgroup], which is made below the directory given there, or below
	// this process's own cgroup, and removed in the end. Where descendants live on it stays until a later command with KillTree, in this
	// process or another one, finds it empty. Nothing leaves the cgroup but what may write the cgroup.procs of another one: a program of root's,
	// or of the user to whom this process's cgroup was delegated. Under systemd the service should have Delegate=yes.
	//
	// Where no cgroup can be made (no cgroup v2, no right to write there, before Linux 5.7), the child is a subreaper. Orphans below it
	// become its children: a program that never waits for children that it does not know collects zombies until it ends. The descendants are
	// stopped before they are killed. That finds all as long as the child lives. If it ends first, in the grace period, those that were there at the
	// beginning of the period are killed and what is below them, but not what has lost its parent meanwhile. Spared are those that this
	// process may not signal; and a program that fights back, by killing the child or waking it, gets away, as do those that for two seconds
	// fork faster than this process can look for them. It needs /proc, with
	// /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN): without, the start fails.
	//
	// (cgroup.kill in cgroups(7), Linux 5.14, before by freezing; PR_SET_CHILD_SUBREAPER in prctl(2); systemd's KillMode=control-group)
	KillTree
)

// SetKillMode says what is signalled when the context ends or on [Process.Abort]. The default is [KillProcess]. (systemd's KillMode=)
func (c *Command) SetKillMode(m KillMode) *Command {
	if m < KillProcess || m > KillTree {
		c.fail("SetKillMode", "%d is not a kill mode", int(m))
	}
	c.want.KillMode = command.KillMode(m)
	return c
}

// SetGracePeriod sets the time between SIGTERM and SIGKILL when the context ends or on [Process.Abort]. The default is
// [DefaultGracePeriod]; with 0, SIGKILL is sent at once and SIGTERM not at all. (systemd's TimeoutStopSec=)
func (c *Command) SetGracePeriod(d time.Duration) *Command {
	if d < 0 {
		c.fail("SetGracePeriod", "the period %v is negative", d)
	}
	c.want.Grace = d
	return c
}

// SetIgnoredSignals has the program start with these signals ignored, instead of those set before; all others have their default action.
// That is the default for all, whatever this process ignores. SIGKILL and SIGSTOP cannot be ignored.
// (signal(7), systemd's IgnoreSIGPIPE=)
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

// SetParentDeathSignal sends the program this signal when this process ends, however it ends. It does not matter which thread of this
// process started it and whether that thread still lives: such children are started by a thread that never ends. If this process
// ends before the program runs, the program never does. The default is none.
//
// The kernel forgets the signal when the program executes a setuid or setgid file, or one with capabilities.
// (PR_SET_PDEATHSIG in prctl(2), [syscall.SysProcAttr].Pdeathsig)
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

// signalNumber returns the number of a signal; 0 is none, but a way to ask whether a process is there.
func signalNumber(sig os.Signal) (int, error) {
	n, ok := sig.(syscall.Signal)
	if !ok || n < 0 || n > command.MaxSignal {
		return 0, fmt.Errorf("%v is not a signal", sig)
	}
	return int(n), nil
}

// Clone returns an independent copy: changing one does not change the other. Readers, writers, files and variables
// that were registered are shared. A command that could not run, because of a bad call, gives a copy that
// cannot either.
func (c *Command) Clone() *Command {
	d := *c
	d.want = *c.want.Clone()
	return &d
}

// String returns the command as a line for a POSIX shell: the environment, if it was set, the program and the
// arguments, quoted where needed, secrets as ***. Errors, logs and events leave out the environment, of which not everything that is nobody else's
// business is marked as a secret. Nothing in this package runs the line. (virCommandToString)
func (c *Command) String() string { return c.want.String() }

// Path returns the program. In a function of [SetPolicy] it is the absolute path that will be executed, as found in PATH, or seen from this process's
// working directory, or in the new root directory after [Command.SetChroot]; in a dry run, and everywhere else, it is as it was given to [New].
// It is not cleaned and symbolic links are not followed: /usr/sbin/../bin/sh is possible, and what a link leads to may change. A rule about directories compares
// with [path/filepath.Clean], and allows only directories in which nobody else can write.
func (c *Command) Path() string {
	if c.options.Path != "" {
		return c.options.Path
	}
	return c.want.Name
}

// Args returns the arguments as the program gets them, from argument 0 on, secrets too. For a log, see [Command.String].
func (c *Command) Args() []string {
	args, _ := c.want.Argv()
	return args
}

// Env returns the environment as the program gets it, as name=value: all of this process's variables as long as nothing was said about it. Secrets
// are there too. LISTEN_PID (see [Command.AddListenFD]) is not, because the pid is not known.
func (c *Command) Env() []string {
	var env []string
	c.want.EachVariable(func(pair string, _, _ bool) { env = append(env, pair) })
	return env
}

// Dir returns what was given to [Command.SetWorkingDirectory], empty for this process's own.
func (c *Command) Dir() string { return c.want.Dir }

// Run runs a program to its end, with the whole environment of this process. It is short for
// New(name, args...).Run(ctx). (virRun)
func Run(ctx context.Context, name string, args ...string) error {
	return New(name, args...).Run(ctx)
}
