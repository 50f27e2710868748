package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/virspawn/spawn"
)

// Exit statuses of spawnrun's own, as of env(1) and timeout(1).
const (
	exitFailed       = 125
	exitCannotStart  = 126
	exitNotFound     = 127
	exitSignalOffset = 128
)

// runner is what the command line asks for.
type runner struct {
	cmd        *spawn.Command
	secretArgs []string
	// Numbers of the descriptors of -send-buffer.
	buffers  []int
	sockets  []string                      // what to listen on
	streams  [3]func(*spawn.Command) error // nil: as spawnrun's own
	landlock spawn.Landlock
	uidMaps  []spawn.IDMap
	gidMaps  []spawn.IDMap
	// The flag that says how standard output is read.
	reader    string
	read      func(context.Context) error // does it
	combined  bool                        // it reads standard error too
	start     bool                        // by Start
	handshake bool
	outputs   [2]string // of -buffers
	allowed   []string  // directories of -policy; nil: all
	timeout   time.Duration
	away      bool // the program does not get signals from the terminal
	exec      bool
	dryRun    spawn.DryRunFunc // nil: programs run
	daemon    bool
	pty       bool
	status    bool
	// Prints something in place of running the program.
	print func() (string, error)
}

func run(args []string) int {
	r, err := parse(args)
	if err == nil && r.dryRun != nil {
		defer spawn.SetDryRun(r.dryRun)()
	}
	if err == nil && r.allowed != nil {
		defer spawn.SetPolicy(r.policy)()
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		writeUsage(os.Stdout)
		return 0
	case err != nil:
		complain(err)
		return exitFailed
	case r.print != nil:
		return r.printOnly()
	case r.exec:
		return r.exitCode(spawn.Status{ExitCode: -1}, r.cmd.Exec())
	case r.daemon:
		return r.startDaemon()
	}
	return r.run()
}

func complain(err error) {
	fmt.Fprintln(os.Stderr, "spawnrun:", strings.TrimPrefix(err.Error(), "spawn: "))
}

// given is a flag as it occurs on the command line.
type given struct {
	*option
	value string
}

// parse builds the command from the command line.
func parse(args []string) (*runner, error) {
	flags := flag.NewFlagSet("spawnrun", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var all []given
	for _, g := range groups {
		for i := range g.options {
			o := &g.options[i]
			add := func(value string) error {
				all = append(all, given{o, value})
				return nil
			}
			if o.arg == "" {
				flags.BoolFunc(o.name, o.help, func(value string) error {
					if value != "true" {
						// Package flag gives "true" where there is none.
						return errors.New("it takes no value")
					}
					return add("")
				})
			} else {
				flags.Func(o.name, o.help, add)
			}
		}
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() == 0 {
		return nil, errors.New("no program; -help shows the flags")
	}
	r := &runner{cmd: spawn.New(flags.Arg(0))}
	for _, g := range all {
		if err := g.set(r, g.value); err != nil {
			// The value may be a secret.
			return nil, fmt.Errorf("-%s: %w", g.name, err)
		}
	}
	r.addArgs(flags.Args()[1:])
	if err := r.setStreams(); err != nil {
		return nil, err
	}
	return r, r.listen()
}

// addArgs adds the arguments, in which {fd1} stands for the number of the first
// buffer's descriptor.
func (r *runner) addArgs(args []string) {
	var pairs []string
	for i, fd := range r.buffers {
		pairs = append(pairs, "{fd"+strconv.Itoa(i+1)+"}", strconv.Itoa(fd))
	}
	numbers := strings.NewReplacer(pairs...)
	for _, a := range args {
		r.cmd.AddArg(numbers.Replace(a))
	}
	for _, a := range r.secretArgs {
		r.cmd.AddSecretArg(a)
	}
}

// setStreams connects the streams: those about which no flag says something are
// spawnrun's own.
func (r *runner) setStreams() error {
	switch {
	case r.read != nil && r.streams[1] != nil:
		return errors.New("-" + r.reader + " and -stdout exclude each other")
	case r.read != nil && (r.exec || r.status):
		// The lines come through spawnrun, and a loop over them tells of an end
		// without error nothing more.
		return errors.New("-" + r.reader + " goes neither with -exec nor with -status")
	case (r.exec || r.daemon) && (r.status || r.timeout != 0):
		return errors.New("-exec or -daemonize leaves nobody for -status or -timeout")
	case r.daemon && (r.exec || r.read != nil):
		return errors.New("-daemonize goes neither with -exec nor with what reads the output")
	case r.pty && (r.exec || r.daemon || r.read != nil || r.start):
		return errors.New("-pty goes neither with -exec nor with -daemonize nor with -handshake nor with what reads the output")
	}
	switch {
	case r.daemon, r.pty:
	case r.read != nil: // it takes standard output for itself
		r.cmd.SetStdin(os.Stdin)
		if !r.combined {
			r.cmd.SetStderr(os.Stderr)
		}
	default:
		r.cmd.InheritStdio()
	}
	for _, set := range r.streams {
		if set == nil {
			continue
		}
		if err := set(r.cmd); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) printOnly() int {
	text, err := r.print()
	if err != nil {
		return r.exitCode(spawn.Status{ExitCode: -1}, err)
	}
	fmt.Print(text)
	return 0
}

// run runs the program and returns the exit status for spawnrun.
func (r *runner) run() int {
	ctx, cancel := r.context()
	defer cancel()
	var status spawn.Status
	var err error
	switch {
	case r.read != nil:
		status, err = endOf(r.read(ctx))
	case r.pty:
		status, err = r.runOnTerminal(ctx)
	case r.start:
		status, err = endOf(r.startAndWait(ctx))
	default:
		status, err = r.cmd.RunStatus(ctx)
	}
	fmt.Fprint(os.Stdout, r.outputs[0])
	fmt.Fprint(os.Stderr, r.outputs[1])
	if r.status && (status.ExitCode >= 0 || status.Signal != 0) {
		fmt.Fprintf(os.Stderr, "spawnrun: %v, user %v, system %v, peak memory %d KiB\n",
			status, status.UserTime, status.SystemTime, status.MaxRSS>>10)
	}
	return r.exitCode(status, err)
}

// startDaemon starts a daemon and prints its pid.
func (r *runner) startDaemon() int {
	ctx, cancel := r.context() // it counts until the daemon runs
	defer cancel()
	p, err := r.cmd.Start(ctx)
	if err == nil && r.handshake {
		err = shakeHands(p)
	}
	if err != nil {
		return r.exitCode(spawn.Status{ExitCode: -1}, err)
	}
	fmt.Println(p.PID())
	return 0
}

// context returns a context that ends with the timeout and with signals that
// are for the program too.
func (r *runner) context() (context.Context, context.CancelFunc) {
	ended := []os.Signal{syscall.SIGTERM, syscall.SIGHUP}
	fromTerminal := []os.Signal{syscall.SIGINT, syscall.SIGQUIT}
	if r.away {
		ended = append(ended, fromTerminal...)
	} else {
		// The program gets them too and decides; spawnrun waits for what
		// it decides.
		signal.Notify(make(chan os.Signal, 1), fromTerminal...)
	}
	ended = slices.DeleteFunc(ended, signal.Ignored) // as nohup(1) has it
	ctx, stop := signal.NotifyContext(context.Background(), ended...)
	if r.timeout == 0 {
		return ctx, stop
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	return ctx, func() { cancel(); stop() }
}

// setReader says how standard output is read.
func (r *runner) setReader(name string, read func(context.Context) error) error {
	if r.read != nil {
		return errors.New("-" + r.reader + " reads standard output already")
	}
	r.reader, r.read = name, read
	return nil
}

// printBytes prints what a program wrote.
func printBytes(out []byte, err error) error {
	_, failed := os.Stdout.Write(out)
	return cmp.Or(err, failed)
}

// printAll prints lines as they come, each behind prefix.
func printAll(prefix string, lines iter.Seq2[string, error]) error {
	for line, err := range lines {
		if err != nil {
			return err
		}
		if _, err := fmt.Println(prefix + line); err != nil {
			return err
		}
	}
	return nil
}

// endOf returns how the program ended, as far as the error of its running
// call says.
func endOf(err error) (spawn.Status, error) {
	var exit *spawn.ExitError
	if errors.As(err, &exit) {
		return exit.Status, err
	}
	if err != nil {
		return spawn.Status{ExitCode: -1}, err
	}
	return spawn.Status{}, nil
}

// exitCode says on standard error what went wrong, unless the program's exit
// code says it, and returns spawnrun's own.
func (r *runner) exitCode(status spawn.Status, err error) int {
	var start *spawn.StartError
	var exit *spawn.ExitError
	switch {
	case errors.As(err, &start):
		complain(err)
		// Other steps may miss a file as well, the working directory for one.
		search := strings.HasPrefix(start.Op, "execve(") || start.Op == "search in PATH"
		if search && errors.Is(err, fs.ErrNotExist) {
			return exitNotFound
		}
		return exitCannotStart
	case errors.As(err, &exit):
		if exit.Err != nil {
			complain(err)
		}
	case err != nil:
		complain(err)
		return exitFailed
	}
	switch {
	case status.Signal != 0:
		return exitSignalOffset + int(status.Signal)
	case status.ExitCode >= 0:
		return status.ExitCode
	}
	return exitFailed
}
