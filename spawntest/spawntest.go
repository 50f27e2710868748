// Package spawntest tests code that starts programs by package spawn, without
// starting any.
//
// [New] gives a context for the code under test, and a script of the calls that
// are expected of it, each with what the program then does:
//
//	func TestSetWakeup(t *testing.T) {
//		ctx, script := spawntest.New(t)
//		script.Expect("rtcwake", "-m", "no", "-s", "60").
//			Stderr("rtcwake: no device\n").Exit(1)
//		if err := SetWakeup(ctx, time.Minute); err == nil {
//			t.Error("no error")
//		}
//	}
//
// Calls come in the order of the script, or in any with [AnyOrder]. What
// differs fails the test at its end: a call that was not expected, which also
// fails with an error, one that is missing, and one with other arguments or
// input. Secrets are shown as ***.
//
// [Record] writes the script by itself: it runs the programs for real once, and
// keeps what they were given and did in a golden file.
//
// Both are dry runs of package spawn, see [spawn.SetDryRun]: bad calls,
// streams, contexts and errors are as for real, and tests can run in parallel,
// without privileges, and on systems on which programs do not run.
package spawntest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/virspawn/spawn"
)

// Script is what a test expects of the code under test. Its methods may be
// called at any time before the calls that they are about.
type Script struct {
	t       testing.TB
	options options

	running

	mu       sync.Mutex
	calls    int
	expected []*Expectation
	next     int // of expected, in order
	problems []*report
	golden   string // the file that the script is from

	secretsMu sync.Mutex
	secrets   []string // of all calls so far
}

// options are what Options have set.
type options struct {
	anyOrder bool
	hidden   []string
	replaced []replacement
}

type replacement struct{ value, name string }

// Option changes how calls are compared.
type Option func(*options)

// AnyOrder accepts the calls in any order, for code that runs several programs
// at once. Of two expectations that match the same arguments the first is
// used first.
func AnyOrder() Option { return func(o *options) { o.anyOrder = true } }

// Hide shows these values as *** in reports, and writes them nowhere, as what
// was given as a secret to a [spawn.Command] is. It is for secrets that go
// elsewhere, such as standard input, and for what programs make of a secret.
// [Record] says in which forms a value is found.
func Hide(values ...string) Option {
	return func(o *options) { o.hidden = append(o.hidden, values...) }
}

// Replace writes name to golden files where value occurs in anything that
// a program is given or writes, and value where name occurs when they are read:
// for a value that is not the same in every run, such as a temporary directory.
func Replace(value, name string) Option {
	return func(o *options) { o.replaced = append(o.replaced, replacement{value, name}) }
}

// New returns a context in which no program runs, and an empty script, by which
// every call in this context is unexpected. The context ends with the test;
// programs that still run then, and the functions that stand in for them, are
// waited for.
func New(t testing.TB, options ...Option) (context.Context, *Script) {
	s := &Script{t: t}
	for _, set := range options {
		set(&s.options)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		s.end()
	})
	return spawn.WithDryRun(ctx, s.run), s
}

// Expectation is one call that is expected, and what the program then does:
// nothing, with exit code 0, unless methods say otherwise.
type Expectation struct {
	where string
	argv  []Matcher
	rest  bool // more arguments may follow
	min   int
	max   int
	used  int

	checks   []func(r *report, call *spawn.DryRunCall)
	stdin    Matcher
	stdout   string
	stderr   string
	exit     int
	signal   syscall.Signal
	startErr error
	runs     bool
	do       func(*spawn.DryRunCall)
}

// Expect expects a program to be called with these arguments, its name as
// given to [spawn.New] first. Each is a string, which must be the same, or a
// [Matcher]; [Rest] as the last one stands for any further arguments. Anything
// else panics, here and in the methods of an [Expectation].
func (s *Script) Expect(argv ...any) *Expectation {
	e := &Expectation{min: 1, max: 1}
	if _, file, line, ok := runtime.Caller(1); ok {
		e.where = filepath.Base(file) + ":" + strconv.Itoa(line)
	}
	for i, a := range argv {
		if a == any(Rest) && i == len(argv)-1 {
			e.rest = true
			break
		}
		e.argv = append(e.argv, mustMatcher("Expect", a))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected = append(s.expected, e)
	return e
}

// mustMatcher returns v as a matcher. Anything else is a mistake in the test.
func mustMatcher(method string, v any) Matcher {
	m, err := toMatcher(v)
	if err != nil {
		panic("spawntest: " + method + ": " + err.Error())
	}
	return m
}

// Times expects the call n times, one after the other. The default is once.
func (e *Expectation) Times(n int) *Expectation {
	e.min, e.max = n, n
	return e
}

// AnyTimes allows the call any number of times, also none.
func (e *Expectation) AnyTimes() *Expectation {
	e.min, e.max = 0, math.MaxInt
	return e
}

// Stdin expects the program's whole standard input to be this: a string or
// a [Matcher]. Otherwise it is not read.
func (e *Expectation) Stdin(text any) *Expectation {
	e.stdin = mustMatcher("Stdin", text)
	return e
}

// Env expects a variable in the program's environment with this value: a string
// or a [Matcher].
func (e *Expectation) Env(name string, value any) *Expectation {
	m := mustMatcher("Env", value)
	return e.check(func(r *report, call *spawn.DryRunCall) {
		i := slices.IndexFunc(call.Env, func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
		if i < 0 {
			r.add("variable %s: expected %s, there is none", name, m)
			return
		}
		r.compare("variable "+name, m, call.Env[i][len(name)+1:], call.SecretEnv(i))
	})
}

// NoEnv expects that the program's environment has no variable of this name.
func (e *Expectation) NoEnv(name string) *Expectation {
	return e.check(func(r *report, call *spawn.DryRunCall) {
		if slices.ContainsFunc(call.Env, func(pair string) bool { return strings.HasPrefix(pair, name+"=") }) {
			r.add("variable %s: expected none", name)
		}
	})
}

// Dir expects the program's working directory to be this, as given
// to [spawn.Command.SetWorkingDirectory]: a string, empty for the default, or
// a [Matcher].
func (e *Expectation) Dir(dir any) *Expectation {
	m := mustMatcher("Dir", dir)
	return e.check(func(r *report, call *spawn.DryRunCall) { r.compare("working directory", m, call.Dir, false) })
}

// SendBuffer expects data given to [spawn.Command.SetSendBuffer] to be this:
// a string or a [Matcher]. Reports do not show it.
func (e *Expectation) SendBuffer(data any) *Expectation {
	m := mustMatcher("SendBuffer", data)
	return e.check(func(r *report, call *spawn.DryRunCall) {
		for _, b := range call.Buffers {
			if m.Match(string(b)) {
				return
			}
		}
		r.add("send buffer: none of %d is as expected", len(call.Buffers))
	})
}

// Explains expects the text of [spawn.DryRunCall.Explain], the system calls of
// a child, to be this: a [Matcher], such as Contains("PR_SET_NO_NEW_PRIVS"), or
// a string, which is the whole text. It is for what is no argument or variable:
// limits, credentials, confinement. Where there is no such text the call is not
// as expected, so a test with it is one for Linux.
func (e *Expectation) Explains(text any) *Expectation {
	m := mustMatcher("Explains", text)
	return e.check(func(r *report, call *spawn.DryRunCall) {
		got, err := call.Explain()
		switch {
		case err != nil:
			r.add("system calls: expected %s, but %s", m, exact(err.Error()))
		case !m.Match(got):
			r.lines = append(r.lines, func(x scrubber) string {
				return fmt.Sprintf("system calls: expected %s, got, among others", x.shown([]any{m})...) + notable(x.scrub(got))
			})
		}
	})
}

// notable returns the system calls of a text but those that every child makes
// by the dozen, and the last, which has the whole environment.
func notable(calls string) string {
	var b strings.Builder
	for line := range strings.Lines(calls) {
		if !strings.HasPrefix(line, "rt_sigaction(") && !strings.HasPrefix(line, "execve(") {
			b.WriteString("\n  " + strings.TrimSuffix(line, "\n"))
		}
	}
	return b.String()
}

func (e *Expectation) check(f func(*report, *spawn.DryRunCall)) *Expectation {
	e.checks = append(e.checks, f)
	return e
}

// Stdout makes the program write this to its standard output.
func (e *Expectation) Stdout(text string) *Expectation {
	e.stdout = text
	return e
}

// Stderr makes the program write this to its standard error, after what it
// writes to its standard output.
func (e *Expectation) Stderr(text string) *Expectation {
	e.stderr = text
	return e
}

// Exit makes the program exit with this code, 0 to 255.
func (e *Expectation) Exit(code int) *Expectation {
	e.exit = code
	return e
}

// Signal makes the program be ended by this signal.
func (e *Expectation) Signal(sig syscall.Signal) *Expectation {
	e.signal = sig
	return e
}

// StartError makes the start of the program fail: with err if it is
// a [*spawn.StartError], otherwise with one that wraps it.
func (e *Expectation) StartError(err error) *Expectation {
	e.startErr = err
	return e
}

// Runs makes the program run, after it has written its output, until its
// context ends, or a signal or [spawn.Process.Abort] ends it.
func (e *Expectation) Runs() *Expectation {
	e.runs = true
	return e
}

// Do calls f, as a [spawn.DryRunFunc], when the other methods have set what the
// program does: f may look at the call, and change that.
func (e *Expectation) Do(f func(*spawn.DryRunCall)) *Expectation {
	e.do = f
	return e
}

// String returns the expected command line.
func (e *Expectation) String() string {
	words := make([]string, 0, len(e.argv)+1)
	for _, m := range e.argv {
		words = append(words, m.String())
	}
	if e.rest {
		words = append(words, Rest.String())
	}
	return strings.Join(words, " ")
}

// matches reports whether the arguments are the expected ones.
func (e *Expectation) matches(call *spawn.DryRunCall) bool {
	argv := words(call)
	if len(argv) < len(e.argv) || len(argv) > len(e.argv) && !e.rest {
		return false
	}
	for i, m := range e.argv {
		if !m.Match(argv[i]) {
			return false
		}
	}
	return true
}

// words returns the arguments with the name of the program in place of
// argument 0.
func words(call *spawn.DryRunCall) []string {
	return append([]string{call.Path}, call.Args[1:]...)
}

var errUnexpected = errors.New("spawntest: the test does not expect this call")

// running counts the functions that stand in for programs.
type running struct {
	mu   sync.Mutex
	over bool
	all  sync.WaitGroup
}

// begin counts one, which ends with all.Done. When the test is over the call
// fails instead, and begin reports false.
func (r *running) begin(call *spawn.DryRunCall) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		call.Err = errors.New("spawntest: the test is over")
		return false
	}
	r.all.Add(1)
	return true
}

// finish lets no more begin, and waits for all.
func (r *running) finish() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.all.Wait()
}

// run stands in for a program.
func (s *Script) run(call *spawn.DryRunCall) {
	if !s.begin(call) {
		return
	}
	defer s.all.Done()
	s.mu.Lock()
	s.calls++
	s.secretsMu.Lock()
	s.secrets = append(s.secrets, secretsOf(call)...)
	s.secretsMu.Unlock()
	r := &report{script: s, call: call, title: fmt.Sprintf("call %d differs from what is expected", s.calls)}
	e, ok := s.find(r)
	s.mu.Unlock()
	if e != nil && ok {
		e.play(r)
	} else {
		call.Err = s.unexpected(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.isEmpty() {
		s.problems = append(s.problems, r)
	}
}

// unexpected is the error of a call that nothing stands in for. It has
// the first difference: an error of the code under test is often what is
// seen first.
func (s *Script) unexpected(r *report) error {
	if !r.differs() {
		return errUnexpected
	}
	s.secretsMu.Lock()
	x := newScrubber(s.options.hidden, s.secrets)
	s.secretsMu.Unlock()
	return fmt.Errorf("%w: %s", errUnexpected, strings.NewReplacer("\n  expected ", " expected ", "\n  got      ", ", got ").Replace(r.lines[0](x)))
}

// find returns the expectation that a call is for, and uses it. If there is
// none, or ok is false, the report says why.
func (s *Script) find(r *report) (e *Expectation, ok bool) {
	first := -1 // that is open
	for i := s.next; i < len(s.expected); i++ {
		e := s.expected[i]
		if e.used >= e.max {
			continue
		}
		if e.matches(r.call) {
			e.used++
			if !s.options.anyOrder {
				if first >= 0 {
					r.title = fmt.Sprintf("call %d is out of order", s.calls)
					r.expected(s.expected[first])
				} else {
					s.next = i
				}
			}
			return e, true
		}
		if first < 0 && e.used < e.min {
			first = i
		}
	}
	near := s.nearest(r.call, first)
	if near == nil {
		r.title = fmt.Sprintf("call %d is not expected", s.calls)
		if first >= 0 && !s.options.anyOrder {
			r.expected(s.expected[first])
		} else {
			r.called()
		}
		return nil, false
	}
	near.used++ // not missing too
	r.expected(near)
	near.difference(r)
	return near, false
}

// nearest returns the missing expectation that a call was most likely meant
// for, of those from first on, in order the first itself: one of the same
// program, with the most arguments that are as expected, and of those with the
// fewest that are not. There may be none.
func (s *Script) nearest(call *spawn.DryRunCall, first int) (near *Expectation) {
	if first < 0 {
		return nil
	}
	candidates := s.expected[first:]
	if !s.options.anyOrder {
		candidates = candidates[:1]
	}
	argv, most, fewest := words(call), 0, 0
	for _, e := range candidates {
		if e.used >= e.min || len(e.argv) == 0 || !e.argv[0].Match(call.Path) {
			continue
		}
		same := 0
		for i, m := range e.argv {
			if i < len(argv) && m.Match(argv[i]) {
				same++
			}
		}
		other := len(e.argv) - same
		if !e.rest {
			other += max(len(argv)-len(e.argv), 0)
		}
		if near == nil || same > most || same == most && other < fewest {
			near, most, fewest = e, same, other
		}
	}
	return near
}

// difference reports which arguments differ.
func (e *Expectation) difference(r *report) {
	argv := words(r.call)
	for i := range max(len(argv), len(e.argv)) {
		switch {
		case i >= len(argv):
			r.add("argument %d: expected %s, there is none", i, e.argv[i])
		case i >= len(e.argv):
			if !e.rest {
				r.add("argument %d: expected none, got %s", i, given(argv[i], r.call.SecretArg(i)))
			}
		default:
			r.compare("argument "+strconv.Itoa(i), e.argv[i], argv[i], r.call.SecretArg(i))
		}
	}
}

// play does what the program does.
func (e *Expectation) play(r *report) {
	call := r.call
	for _, check := range e.checks {
		check(r, call)
	}
	if e.startErr != nil {
		call.Err = e.startErr
		return
	}
	if e.stdin != nil {
		r.compare("standard input", e.stdin, call.Stdin(), false)
	}
	if r.differs() && !r.shown {
		r.expected(e)
	}
	call.Stdout, call.Stderr, call.ExitCode, call.Signal = e.stdout, e.stderr, e.exit, e.signal
	if e.do != nil {
		e.do(call)
	}
	if e.runs {
		call.Flush()
		<-call.Context().Done()
	}
}

// end fails the test if something was not as expected.
func (s *Script) end() {
	s.t.Helper()
	s.finish()
	x := newScrubber(s.options.hidden, s.secrets)
	var problems []string
	for _, r := range s.problems {
		problems = append(problems, r.text(x))
	}
	for _, e := range s.expected {
		if e.used < e.min {
			times := ""
			if e.min > 1 {
				times = fmt.Sprintf(" (called %d of %d times)", e.used, e.min)
			}
			problems = append(problems, "a call is missing"+times+"\n  "+e.show(x))
		}
	}
	if len(problems) > 0 && s.calls == 0 {
		problems = append(problems, "no program was called in the context of this test: does the code under test get it?")
	}
	for _, p := range problems {
		s.t.Errorf("spawntest: %s", p)
	}
	if s.golden != "" && len(problems) > 0 {
		s.t.Errorf("spawntest: %s is not what the programs are given now; if that is meant to be: go test -run '^%s$' -update", s.golden, s.t.Name())
	}
}

func (e *Expectation) at() string {
	if e.where == "" {
		return ""
	}
	return "  (" + e.where + ")"
}
