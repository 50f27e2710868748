package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/virspawn/spawn/internal/vmtest/wire"
)

// grace is what a run gets to end by itself after its own time limit, before
// the guest kills it.
const grace = 30 * time.Second

// user is who a test binary runs as, without supplementary groups.
type user struct {
	name string
	id   uint32 // of the user and its group
	home string
}

func users() []user {
	return []user{
		{name: "root", id: 0, home: "/root"},
		{name: "nobody", id: 65534, home: "/tmp"},
	}
}

// task is one line of the report: a package's tests run as one user.
type task struct {
	pkg, user string
	started   bool
	ended     bool
	output    bytes.Buffer
}

// ending is how the machine said that a task ended.
type ending struct {
	task    *task
	elapsed time.Duration
	problem string // empty when it ended well
}

// session is one boot of one machine.
type session struct {
	o        *options
	machine  *bootable
	build    build
	dir      string // for everything that is written
	reporter *reporter
	boot     func(context.Context) error // replaced in tests

	tasks    []task
	job      wire.Job
	endings  chan ending
	problems []string
	done     bool
}

func newSession(o *options, b *bootable, built build, dir string, rep *reporter) *session {
	s := &session{o: o, machine: b, build: built, dir: dir, reporter: rep}
	s.boot = s.bootMachine
	s.job.Setup = b.setup
	for i := range built.binaries {
		for _, u := range users() {
			s.tasks = append(s.tasks, task{pkg: built.binaries[i].pkg, user: u.name})
			s.job.Runs = append(s.job.Runs, s.wireRun(&built.binaries[i], u))
		}
	}
	// Each task ends once: never blocks.
	s.endings = make(chan ending, len(s.tasks))
	return s
}

// wireRun tells the guest how to run a test binary.
func (s *session) wireRun(b *testBinary, u user) wire.Run {
	dir := b.guestDir()
	args := []string{
		dir + "/test",
		// As go test: leaving early must not look like success.
		"-test.paniconexit0",
		"-test.short",
		"-test.timeout=" + s.o.testTimeout.String(),
		"-test.v=test2json",
	}
	if run := cmp.Or(s.o.run, s.machine.tests); run != "" {
		args = append(args, "-test.run="+run)
	}
	env := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
		"HOME=" + u.home, "USER=" + u.name, "LOGNAME=" + u.name, "PWD=" + dir,
	}
	return wire.Run{
		Args: args, Env: append(env, s.o.env...), Dir: dir,
		UID: u.id, GID: u.id, Limit: s.o.testTimeout + grace,
	}
}

// run boots the machine and reports on every task.
func (s *session) run(ctx context.Context) {
	// Not in the goroutine that reads events: QEMU stops the whole machine
	// while nobody reads.
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		for e := range s.endings {
			s.report(ctx, e)
		}
	}()
	err := s.boot(ctx)
	if err == nil && !s.done {
		err = errors.New("the machine stopped before its last line")
	}
	if err != nil {
		s.problems = append(s.problems, err.Error())
	}
	s.endUnfinished()
	close(s.endings)
	<-reported
	if len(s.problems) > 0 {
		s.reportProblems()
	}
}

// reportProblems reports what no single task is to blame for.
func (s *session) reportProblems() {
	details := strings.Join(s.problems, "\n")
	if console, err := os.ReadFile(s.console()); err == nil {
		details += "\nlast lines of the console:\n" + lastLines(console, 30)
	}
	s.reporter.fail("kernel "+s.machine.title(), details)
}

func (s *session) console() string { return filepath.Join(s.dir, "console.log") }

func (s *session) bootMachine(ctx context.Context) error {
	if s.machine.vmlinuz == "" {
		return fmt.Errorf("no kernel %s in %s: run .ci/vm", s.machine.kernel, s.o.cache)
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	initrd := filepath.Join(s.dir, "initramfs.cpio")
	err := writeInitramfs(initrd, s.o.cache, &s.machine.machine, s.build.guest, s.build.binaries, &s.job)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeoutCause(ctx, s.o.timeout, fmt.Errorf("no end within %v", s.o.timeout))
	defer cancel()
	return boot(limited, s.machine, initrd, s.console(), s.handle)
}

// handle takes one event of the guest.
func (s *session) handle(e wire.Event) {
	if e.Run < 0 || e.Run >= len(s.tasks) {
		s.problems = append(s.problems, fmt.Sprintf("the guest ran a task %d that there is not", e.Run))
		return
	}
	t := &s.tasks[e.Run]
	switch e.Kind {
	case wire.Start:
		t.started = true
	case wire.Output:
		t.output.Write(e.Data)
	case wire.End:
		problem := e.Status
		if problem == wire.Passed {
			problem = ""
		}
		s.end(t, e.Elapsed, problem)
	case wire.Problem:
		s.problems = append(s.problems, "guest: "+string(e.Data))
		s.done = true
	case wire.Done:
		s.done = true
	}
}

// end passes a task on to be reported, the first time.
func (s *session) end(t *task, elapsed time.Duration, problem string) {
	if !t.ended {
		t.ended = true
		s.endings <- ending{t, elapsed, problem}
	}
}

// endUnfinished ends the tasks that the machine left undone.
func (s *session) endUnfinished() {
	for i := range s.tasks {
		problem := "the machine never came to it"
		if s.tasks[i].started {
			problem = "the machine stopped here"
		}
		s.end(&s.tasks[i], 0, problem)
	}
}

// report reports on a task.
func (s *session) report(ctx context.Context, e ending) {
	res := &result{
		machine: s.machine.title(), pkg: e.task.pkg, user: e.task.user,
		elapsed: e.elapsed, problem: e.problem, started: e.task.started,
	}
	if res.started {
		sum, err := summarize(ctx, e.task.output.Bytes())
		if err == nil {
			err = s.save(e.task)
		}
		switch {
		case err != nil:
			res.problem = err.Error()
		case !sum.ok && res.problem == "":
			res.problem = "the tests did not say that they passed"
		}
		if sum != nil {
			res.summary = *sum
		}
	}
	s.reporter.add(res)
}

// save writes the whole output of a task, for -keep.
func (s *session) save(t *task) error {
	name := "tests" + strings.ReplaceAll(strings.TrimPrefix(t.pkg, "."), "/", "-") + "-" + t.user + ".log"
	return os.WriteFile(filepath.Join(s.dir, name), t.output.Bytes(), 0o644)
}

// lastLines returns the end of a text.
func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
