package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

// option is a flag of the command line.
type option struct {
	name string
	// What the value is, for the help; empty for a flag without a value.
	arg  string
	help string
	// set does what the flag asks for. It is called in the order of the command
	// line, once for each time that the flag occurs. An error says what is
	// wrong with the value.
	set func(r *runner, value string) error
}

// group is some options under a title.
type group struct {
	title   string
	options []option
}

// groups is every option. To add one takes no more than a row here or in
// securityGroups.
var groups = slices.Concat(basicGroups, securityGroups, runningGroups)

// basicGroups are the options about what the program gets.
var basicGroups = []group{
	{"Arguments", []option{
		{"arg0", "NAME", "argument 0, in place of PROGRAM", func(r *runner, v string) error {
			r.cmd.SetArgv0(v)
			return nil
		}},
		{"secret-arg", "TEXT", "a last argument, shown as *** (repeatable)", func(r *runner, v string) error {
			r.secretArgs = append(r.secretArgs, v)
			return nil
		}},
	}},
	{"Environment: spawnrun's own, until the first of these; then only what they add", []option{
		{"env", "NAME=VALUE", "a variable (repeatable)", func(r *runner, v string) error {
			r.cmd.AddEnvString(v)
			return nil
		}},
		{"secret-env", "NAME=VALUE", "a variable whose value is shown as *** (repeatable)", func(r *runner, v string) error {
			name, value, ok := strings.Cut(v, "=")
			if !ok {
				return errWant("NAME=VALUE")
			}
			r.cmd.AddSecretEnv(name, value)
			return nil
		}},
		{"env-pass", "NAME", "a variable of spawnrun's, also when that runs setuid (repeatable)", func(r *runner, v string) error {
			r.cmd.AddEnvPassAllowSUID(v)
			return nil
		}},
		{"env-pass-block", "NAME[=FALLBACK]", "a variable of spawnrun's, not when that runs setuid (repeatable)", func(r *runner, v string) error {
			if name, fallback, ok := strings.Cut(v, "="); ok {
				r.cmd.AddEnvPassBlockSUID(name, fallback)
			} else {
				r.cmd.AddEnvPassBlockSUID(name)
			}
			return nil
		}},
		{"env-common", "", "the variables that most programs need: PATH, HOME and a few more", func(r *runner, _ string) error {
			r.cmd.AddEnvPassCommon()
			return nil
		}},
		{"env-all", "", "all of spawnrun's variables, so that more can be added", func(r *runner, _ string) error {
			r.cmd.AddEnvPassAll()
			return nil
		}},
		{"env-xdg", "DIR", "XDG base directories below DIR", func(r *runner, v string) error {
			r.cmd.AddEnvXDG(v)
			return nil
		}},
		{"clear-env", "", "forget the variables that were added so far", func(r *runner, _ string) error {
			r.cmd.ClearEnv()
			return nil
		}},
	}},
	{"Standard streams: spawnrun's own, unless said", []option{
		{"stdin", "FILE", "read standard input from FILE", func(r *runner, v string) error {
			r.streams[0] = func(c *spawn.Command) error {
				f, err := r.open(v, os.O_RDONLY)
				c.SetStdin(f)
				return err
			}
			return nil
		}},
		{"input", "TEXT", "standard input is TEXT", func(r *runner, v string) error {
			r.streams[0] = func(c *spawn.Command) error { c.SetInput([]byte(v)); return nil }
			return nil
		}},
		{"null-stdin", "", "standard input is empty", func(r *runner, _ string) error {
			r.streams[0] = func(c *spawn.Command) error { c.SetStdin(nil); return nil }
			return nil
		}},
		{"stdout", "FILE", "write standard output to FILE", func(r *runner, v string) error {
			r.streams[1] = func(c *spawn.Command) error {
				f, err := r.open(v, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
				c.SetStdout(f)
				return err
			}
			return nil
		}},
		{"stderr", "FILE", "write standard error to FILE", func(r *runner, v string) error {
			r.streams[2] = func(c *spawn.Command) error {
				f, err := r.open(v, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
				c.SetStderr(f)
				return err
			}
			return nil
		}},
		{"merge-stderr", "", "write standard error where standard output goes", func(r *runner, _ string) error {
			r.streams[2] = func(c *spawn.Command) error { c.MergeStderr(); return nil }
			return nil
		}},
		{"pipes", "", "by pipes, whose other ends spawnrun copies from and to its own streams", func(r *runner, _ string) error {
			r.streams[0] = func(c *spawn.Command) error { c.PipeStdin(); return nil }
			r.streams[1] = func(c *spawn.Command) error { c.PipeStdout(); return nil }
			r.streams[2] = func(c *spawn.Command) error { c.PipeStderr(); return nil }
			r.start = true
			return nil
		}},
		{"buffers", "", "keep standard output and error in memory, and print them when the program has ended", func(r *runner, _ string) error {
			r.streams[1] = func(c *spawn.Command) error { c.SetOutputBuffer(&r.outputs[0]); return nil }
			r.streams[2] = func(c *spawn.Command) error { c.SetErrorBuffer(&r.outputs[1]); return nil }
			return nil
		}},
		{"output", "", "print standard output when the program has ended", func(r *runner, _ string) error {
			return r.setReader("output", func(ctx context.Context) error { return printBytes(r.cmd.Output(ctx)) })
		}},
		{"combined-output", "", "print standard output and error, in between as they were written, when the program has ended", func(r *runner, _ string) error {
			r.combined = true
			return r.setReader("combined-output", func(ctx context.Context) error { return printBytes(r.cmd.CombinedOutput(ctx)) })
		}},
		{"pty", "", "a new terminal, whose user spawnrun is: it types what it reads, and prints what the terminal shows", func(r *runner, _ string) error {
			rows, cols := windowSize()
			r.cmd.SetPTY(rows, cols)
			r.pty, r.away = true, true
			return nil
		}},
		{"lines", "PREFIX", "print standard output line by line, each behind PREFIX", func(r *runner, v string) error {
			return r.setReader("lines", func(ctx context.Context) error { return printAll(v, r.cmd.Lines(ctx)) })
		}},
		{"records", "SEP", "print standard output record by record, one a line; SEP, a character or 0 for NUL, ends a record", func(r *runner, v string) error {
			if len(v) != 1 {
				return errWant("one character of ASCII, or 0")
			}
			sep := v[0]
			if sep == '0' {
				sep = 0
			}
			return r.setReader("records", func(ctx context.Context) error { return printAll("", r.cmd.Records(ctx, sep)) })
		}},
		{"regex", "RE", "print the groups of each line of standard output that RE matches, with tabs between", func(r *runner, v string) error {
			re, err := regexp.Compile(v)
			if err != nil {
				return err
			}
			return r.setReader("regex", func(ctx context.Context) error {
				var failed error // to print
				err := r.cmd.RunRegex(ctx, re, func(groups []string) error {
					// Without a group, the match.
					_, failed = fmt.Println(strings.Join(groups[min(1, re.NumSubexp()):], "\t"))
					return failed
				})
				return cmp.Or(failed, err)
			})
		}},
	}},
	{"Descriptors: all are closed but these", []option{
		{"pass-fd", "N[:M]", "pass spawnrun's descriptor N, as number M (repeatable)", (*runner).passFD},
		{"send-buffer", "TEXT", "pass a descriptor from which TEXT can be read; {fd1} in an ARGUMENT is the first one's number (repeatable)", func(r *runner, v string) error {
			r.buffers = append(r.buffers, r.cmd.SetSendBuffer([]byte(v)))
			return nil
		}},
		{"listen", "[NAME=]HOST:PORT|PATH", "listen on a socket and pass it as systemd does, from number 3 on (repeatable)", func(r *runner, v string) error {
			r.sockets = append(r.sockets, v)
			return nil
		}},
	}},
	{"Attributes", []option{
		{"dir", "DIR", "the working directory", func(r *runner, v string) error {
			r.cmd.SetWorkingDirectory(v)
			return nil
		}},
		{"umask", "OCTAL", "the file mode creation mask", func(r *runner, v string) error {
			mask, err := strconv.ParseUint(v, 8, 31)
			if err != nil {
				return errWant("an octal number")
			}
			r.cmd.SetUmask(int(mask))
			return nil
		}},
		{"user", "NAME", "the user, with the groups that the system's database gives", func(r *runner, v string) error {
			r.cmd.SetUser(v)
			return nil
		}},
		{"uid", "N", "the user; another one than spawnrun's needs -gid too", integer(func(r *runner, n int) { r.cmd.SetUID(n) })},
		{"gid", "N", "the group", integer(func(r *runner, n int) { r.cmd.SetGID(n) })},
		{"groups", "N,...", "the supplementary groups; none for an empty value", func(r *runner, v string) error {
			var gids []int
			for s := range strings.SplitSeq(v, ",") {
				if v == "" {
					break
				}
				gid, err := strconv.Atoi(s)
				if err != nil {
					return errWant("numbers with commas between")
				}
				gids = append(gids, gid)
			}
			r.cmd.SetGroups(gids...)
			return nil
		}},
		{"keep-groups", "", "spawnrun's supplementary groups", func(r *runner, _ string) error {
			r.cmd.KeepGroups()
			return nil
		}},
		{"rlimit", "NAME=SOFT[:HARD]", "a limit, named as in prlimit(1); numbers or unlimited (repeatable)", (*runner).setRlimit},
		{"max-files", "N", "the limit of open descriptors", limit((*spawn.Command).SetMaxFiles)},
		{"max-processes", "N", "the limit of the user's processes", limit((*spawn.Command).SetMaxProcesses)},
		{"max-memlock", "BYTES", "the limit of locked memory", limit((*spawn.Command).SetMaxMemLock)},
		{"max-core", "BYTES", "the limit of the core dump", limit((*spawn.Command).SetMaxCoreSize)},
		{"session", "", "a new session, without a terminal", func(r *runner, _ string) error {
			r.cmd.SetSession()
			r.away = true
			return nil
		}},
		{"pid-file", "FILE", "a file with the program's pid, locked as long as it runs", text((*spawn.Command).SetPidFile)},
		{"process-group", "", "a new process group", func(r *runner, _ string) error {
			r.cmd.SetProcessGroup()
			r.away = true
			return nil
		}},
	}},
}

// runningGroups are the options about spawnrun's own part.
var runningGroups = []group{
	{"Running", []option{
		{"timeout", "DURATION", "end the program after this time", duration(func(r *runner, d time.Duration) { r.timeout = d })},
		{"grace", "DURATION", "the time between SIGTERM and SIGKILL; 0 is SIGKILL at once", duration(func(r *runner, d time.Duration) {
			r.cmd.SetGracePeriod(d)
		})},
		{"kill-mode", "process|group|tree", "what to end: the program only, or a new process group, or all its descendants", func(r *runner, v string) error {
			switch v {
			case "process":
				r.cmd.SetKillMode(spawn.KillProcess)
			case "group":
				r.cmd.SetKillMode(spawn.KillGroup)
				r.away = true
			case "tree":
				r.cmd.SetKillMode(spawn.KillTree)
			default:
				return errWant("process, group or tree")
			}
			return nil
		}},
		{"handshake", "", "stop before the program runs, and let it run on a SIGUSR1", func(r *runner, _ string) error {
			r.cmd.RequireHandshake()
			r.start, r.handshake = true, true
			return nil
		}},
		{"hook", "TEXT", "have a Go function print TEXT to standard error in the child, before its program", func(r *runner, v string) error {
			r.cmd.SetPreExecHook(announce, v)
			return nil
		}},
		{"policy", "DIR,...", "refuse a program that is in none of these directories", func(r *runner, v string) error {
			r.allowed = strings.Split(v, ",")
			return nil
		}},
		{"log", "", "log the start and the end to standard error", plain(func(c *spawn.Command) { c.SetLogger(debugLog()) })},
		{"observe", "", "print when the program runs, and for how long it did, to standard error", plain(func(c *spawn.Command) { c.SetObserver(observer{}) })},
		{"daemonize", "", "start a daemon, print its pid and leave it; its standard streams are empty, unless said", func(r *runner, _ string) error {
			r.cmd.Daemonize()
			r.daemon, r.away = true, true
			return nil
		}},
		{"exec", "", "replace spawnrun by the program", func(r *runner, _ string) error {
			r.exec = true
			return nil
		}},
		{"status", "", "print how the program ended and what it used to standard error", func(r *runner, _ string) error {
			r.status = true
			return nil
		}},
		{"string", "", "print the command for a shell; run nothing", func(r *runner, _ string) error {
			r.print = func() (string, error) { return r.cmd.String() + "\n", nil }
			return nil
		}},
		{"dry-run", "CODE", "run nothing, but as if PROGRAM printed what would run and exited with this code", integer(func(r *runner, code int) {
			r.dryRun = func(call *spawn.DryRunCall) {
				call.Stdout, call.ExitCode = fmt.Sprintf("%s, with %d bytes of input\n", call, len(call.Stdin())), code
			}
		})},
		{"explain", "", "print the system calls of the child; run nothing", func(r *runner, _ string) error {
			r.print = func() (string, error) { return r.cmd.Explain() }
			return nil
		}},
	}},
}

// errWant says what a value should have been.
type errWant string

func (e errWant) Error() string { return "want " + string(e) }

// integer makes the set function of a flag with a number.
func integer(set func(*runner, int)) func(*runner, string) error {
	return func(r *runner, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil {
			return errWant("a number")
		}
		set(r, n)
		return nil
	}
}

// duration makes the set function of a flag with a time.
func duration(set func(*runner, time.Duration)) func(*runner, string) error {
	return func(r *runner, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			return errWant("a duration, as 1m30s")
		}
		set(r, d)
		return nil
	}
}

// limit makes the set function of a flag with a limit.
func limit(set func(*spawn.Command, uint64) *spawn.Command) func(*runner, string) error {
	return func(r *runner, v string) error {
		n, err := parseLimit(v)
		if err == nil {
			set(r.cmd, n)
		}
		return err
	}
}

func parseLimit(s string) (uint64, error) {
	if s == "unlimited" {
		return spawn.Unlimited, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, errWant("a number or unlimited")
	}
	return n, nil
}

// resources are the limits by their names in prlimit(1).
var resources = map[string]int{
	"as":         unix.RLIMIT_AS,
	"core":       unix.RLIMIT_CORE,
	"cpu":        unix.RLIMIT_CPU,
	"data":       unix.RLIMIT_DATA,
	"fsize":      unix.RLIMIT_FSIZE,
	"locks":      unix.RLIMIT_LOCKS,
	"memlock":    unix.RLIMIT_MEMLOCK,
	"msgqueue":   unix.RLIMIT_MSGQUEUE,
	"nice":       unix.RLIMIT_NICE,
	"nofile":     unix.RLIMIT_NOFILE,
	"nproc":      unix.RLIMIT_NPROC,
	"rss":        unix.RLIMIT_RSS,
	"rtprio":     unix.RLIMIT_RTPRIO,
	"rttime":     unix.RLIMIT_RTTIME,
	"sigpending": unix.RLIMIT_SIGPENDING,
	"stack":      unix.RLIMIT_STACK,
}

func (r *runner) setRlimit(v string) error {
	name, values, ok := strings.Cut(v, "=")
	if !ok {
		return errWant("NAME=SOFT[:HARD]")
	}
	resource, ok := resources[name]
	if !ok {
		return fmt.Errorf("%q is not a limit", name)
	}
	softText, hardText, both := strings.Cut(values, ":")
	if !both {
		hardText = softText
	}
	soft, err := parseLimit(softText)
	if err != nil {
		return err
	}
	hard, err := parseLimit(hardText)
	if err != nil {
		return err
	}
	r.cmd.SetRlimit(resource, soft, hard)
	return nil
}

func (r *runner) passFD(v string) error {
	from, to, both := strings.Cut(v, ":")
	n, err := strconv.Atoi(from)
	if err != nil {
		return errWant("N or N:M")
	}
	// A descriptor that spawnrun got from whoever started it is
	// not close-on-exec. One that it has opened itself is, and is
	// nobody's business.
	flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return fmt.Errorf("spawnrun was not given a descriptor %d", n)
	}
	f := os.NewFile(uintptr(n), "descriptor "+from)
	if !both {
		r.cmd.PassFD(f)
		return nil
	}
	m, err := strconv.Atoi(to)
	if err != nil {
		return errWant("N or N:M")
	}
	r.cmd.PassFDAs(f, m)
	return nil
}

// listen opens the sockets. They stay open until spawnrun ends. Where nothing
// is to run, none is opened, and a file takes its place.
func (r *runner) listen() error {
	for _, v := range r.sockets {
		name, address, named := strings.Cut(v, "=")
		if !named {
			name, address = "", v
		}
		f, err := os.Open(os.DevNull)
		if r.print == nil {
			f, err = listenOn(address)
		}
		if err != nil {
			return fmt.Errorf("-listen: %w", err)
		}
		r.cmd.AddListenFD(f, name)
	}
	return nil
}

// listenOn opens a TCP socket, or one with a path.
func listenOn(address string) (*os.File, error) {
	if strings.Contains(address, "/") {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
		if err != nil {
			return nil, err
		}
		return l.File() // the path stays
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.(*net.TCPListener).File()
}

// open opens a file for a stream, as spawnrun's user. It stays open until
// spawnrun ends. Where nothing is to run, no file is touched, and another one
// takes its place.
func (r *runner) open(path string, flags int) (*os.File, error) {
	if r.print != nil {
		path = os.DevNull
	}
	return os.OpenFile(path, flags, 0o666)
}

// writeUsage writes the help.
func writeUsage(w io.Writer) {
	fmt.Fprint(w, "usage: spawnrun [flags] -- PROGRAM [ARGUMENT...]\n")
	for _, g := range groups {
		fmt.Fprintf(w, "\n%s:\n", g.title)
		for _, o := range g.options {
			fmt.Fprintf(w, "  -%-31s %s\n", strings.TrimSpace(o.name+" "+o.arg), o.help)
		}
	}
}
