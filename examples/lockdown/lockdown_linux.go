package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

const (
	// self is this program, whatever directories lead to it: the child's new
	// user may not be allowed to enter those.
	self  = "/proc/self/exe"
	argv0 = "lockdown"
	// childMode is the argument that makes this program the child.
	childMode = "report-as-child"
	// nobody is the uid and gid that the child gets when root runs the example.
	nobody = 65534
)

func run(args []string) int {
	if len(args) == 1 && args[0] == childMode {
		return finish(report(os.Stdout))
	}
	flags := flag.NewFlagSet("lockdown", flag.ContinueOnError)
	full := flags.Bool("full", false, "print every system call of the child, also long runs of the same one")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	out := bufio.NewWriter(os.Stdout)
	return finish(errors.Join(demonstrate(out, isTerminal(os.Stdout), *full), out.Flush()))
}

func finish(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "lockdown:", err)
		return 1
	}
	return 0
}

// demonstrate writes all that the example has to show.
func demonstrate(w io.Writer, colours, full bool) error {
	undo, err := beCareless()
	if err != nil {
		return err
	}
	defer undo()

	d := &demonstration{}
	d.checkUser()
	d.findCat()
	fmt.Fprint(w, wrap(introduction, lineWidth), "\n\n")
	t, err := d.table()
	if err != nil {
		return err
	}
	t.write(w, colours)
	fmt.Fprint(w, "\n", wrap(explanation, lineWidth), "\n")
	for _, note := range d.notes {
		fmt.Fprint(w, "\n", wrap("Not shown: "+note, lineWidth), "\n")
	}
	program, err := d.locked(self, childMode).Explain()
	if err != nil {
		return err
	}
	if !full {
		program = fold(program)
	}
	_, err = fmt.Fprintf(w, "\nWhat the child of spawn does between clone and its own code, one system call a line:\n\n%s", program)
	return err
}

const introduction = `This process has a secret file, a directory and a socket open without close-on-exec, a password in its ` +
	`environment, umask 0, and SIGHUP, SIGPIPE and SIGUSR1 ignored. It starts the same child twice. What the child finds:`

const explanation = `Of spawn's column, the closed descriptors, the default signals and the dumpable flag come by themselves; ` +
	`environment, umask, limits and, as root, the user were asked for. The parent's dumpable flag says whether it may be ` +
	`traced and may read its own files in /proc; a change of user in a child clears it in the parent too while both share memory.`

// demonstration is what one run of the example has found out.
type demonstration struct {
	changeUser bool
	cat        string   // the program, empty where there is none
	notes      []string // what could not be shown, and why
}

// note adds something that could not be shown.
func (d *demonstration) note(format string, a ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, a...))
}

// checkUser finds out whether the child can run as another user.
func (d *demonstration) checkUser() {
	const what = "the parent's dumpable flag, because the child runs as the same user: "
	if os.Geteuid() != 0 {
		d.note(what + "only root can change that.")
		return
	}
	info, err := os.Stat(self)
	if err == nil && info.Mode()&0o005 != 0o005 {
		err = fmt.Errorf("this program's file has mode %v", info.Mode())
	}
	if err == nil {
		// A container may lack the privilege, or the user.
		d.changeUser = true
		_, err = d.locked(self, childMode).Output(context.Background())
	}
	if err != nil {
		d.changeUser = false
		d.note("%suid %d cannot run it: %v.", what, nobody, err)
	}
}

// findCat looks for the one program besides this one that the example makes
// use of.
func (d *demonstration) findCat() {
	var err error
	if d.cat, err = exec.LookPath("cat"); err != nil {
		d.note("signals that the Go runtime takes over, SIGPIPE for example, because there is no cat to show what a child " +
			"has that is not a Go program. The limit of open files is the one that the runtime has raised.")
	}
}

// careless is a child of os/exec.
func (d *demonstration) careless(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	if path == self {
		cmd.Args[0] = argv0
	}
	if d.changeUser {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

// locked is the same child of spawn.
func (d *demonstration) locked(path string, args ...string) *spawn.Command {
	cmd := spawn.New(path, args...)
	if path == self {
		cmd.SetArgv0(argv0)
	}
	cmd.AddEnvPassCommon().
		AddEnv("LC_ALL", "C").
		SetUmask(0o077).
		SetMaxFiles(256).
		SetMaxCoreSize(0)
	if d.changeUser {
		cmd.SetUID(nobody).SetGID(nobody)
	}
	return cmd
}

// table runs the children and compares what they say.
func (d *demonstration) table() (*table, error) {
	theirs, theirFlag, err := d.observe(func(path string, args ...string) ([]byte, error) {
		return d.careless(path, args...).Output()
	})
	if err != nil {
		return nil, fmt.Errorf("os/exec: %w", err)
	}
	ours, ourFlag, err := d.observe(func(path string, args ...string) ([]byte, error) {
		return d.locked(path, args...).Output(context.Background())
	})
	if err != nil {
		return nil, err
	}
	t := &table{}
	t.compare("open descriptors", descriptorCell, theirs, ours)
	t.compare("environment", environmentCell, theirs, ours)
	t.compare("umask", umaskCell, theirs, ours)
	t.compare("ignored signals", signalCell, theirs, ours)
	t.compare("limits", limitCell, theirs, ours)
	t.compare("user and groups", groupCell, theirs, ours)
	t.add("parent's dumpable flag afterwards", d.dumpableCell(theirFlag), d.dumpableCell(ourFlag))
	return t, d.addTimes(t)
}

// observe runs the child and returns what it says, and the parent's dumpable
// flag afterwards.
func (d *demonstration) observe(output func(path string, args ...string) ([]byte, error)) (s *seen, flag int, err error) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return nil, 0, os.NewSyscallError("prctl", err)
	}
	text, err := output(self, childMode)
	if err != nil {
		return nil, 0, err
	}
	flag, err = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return nil, 0, os.NewSyscallError("prctl", err)
	}
	s, err = parseReport(text)
	if err != nil || d.cat == "" {
		return s, flag, err
	}
	// The Go runtime has changed signals and limits before a Go program can
	// look at them. Another program has what it was given.
	if s.Status, err = toString(output(d.cat, "/proc/self/status")); err != nil {
		return nil, 0, err
	}
	s.Limits, err = toString(output(d.cat, "/proc/self/limits"))
	return s, flag, err
}

func toString(b []byte, err error) (string, error) { return string(b), err }

// How often the time is taken: until either is reached.
const (
	maxRuns = 400
	maxTime = time.Second
)

// addTimes takes the time of both ways, in turn, so that both meet the same
// disturbances.
func (d *demonstration) addTimes(t *table) error {
	path, err := writeTiny()
	if err != nil {
		return err
	}
	defer os.Remove(path)
	if err := d.careless(path).Run(); err != nil {
		// The file system may be mounted noexec, or the directory closed
		// to nobody.
		d.note("the time to start a program: %v.", err)
		return nil
	}
	var theirs, ours []time.Duration
	for begin := time.Now(); len(ours) < maxRuns && time.Since(begin) < maxTime; {
		their, err := timed(func() error { return d.careless(path).Run() })
		if err != nil {
			return fmt.Errorf("os/exec: %w", err)
		}
		our, err := timed(func() error { return d.locked(path).Run(context.Background()) })
		if err != nil {
			return err
		}
		theirs, ours = append(theirs, their), append(ours, our)
	}
	their, our := median(theirs), median(ours)
	t.add("time to start a program",
		cell{lines: []string{fmt.Sprintf("%d µs until its end", their.Microseconds()), fmt.Sprintf("(median of %d)", len(theirs))}},
		cell{lines: []string{fmt.Sprintf("%d µs until its end", our.Microseconds()), fmt.Sprintf("(%.2f times os/exec's)", float64(our)/float64(their))}})
	return nil
}

func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// fold leaves out the middle of a long run of lines with the same system call.
func fold(program string) string {
	const keep = 2 // lines at the start of the run
	lines := strings.SplitAfter(program, "\n")
	var b strings.Builder
	for i := 0; i < len(lines); {
		call, _, _ := strings.Cut(lines[i], "(")
		end := i + 1
		for end < len(lines) && strings.HasPrefix(lines[end], call+"(") {
			end++
		}
		if left := end - i - keep; left > keep {
			b.WriteString(strings.Join(lines[i:i+keep], ""))
			fmt.Fprintf(&b, "… %d more lines of %s; -full prints them\n", left, call)
		} else {
			b.WriteString(strings.Join(lines[i:end], ""))
		}
		i = end
	}
	return b.String()
}
