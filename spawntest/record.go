package spawntest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/virspawn/spawn"
)

// updateFlag is the name of the flag by which golden files are written again,
// updateVariable that of a variable for go test ./..., where not every test
// knows the flag.
const (
	updateFlag     = "update"
	updateVariable = "SPAWNTEST_UPDATE"
)

func init() {
	if flag.Lookup(updateFlag) == nil { // of another package for golden files
		flag.Bool(updateFlag, false, "record the golden files of package spawntest again")
	}
}

// updating reports whether golden files are to be written again.
func updating() bool {
	f := flag.Lookup(updateFlag)
	return f != nil && f.Value.String() == "true" || os.Getenv(updateVariable) != ""
}

// Record returns a context in which programs run for real once, and are
// then replayed. The first time, and with the flag -update of go test or
// SPAWNTEST_UPDATE=1 in its environment, they run, and what they were given,
// wrote, and how they ended goes to the golden file at path, made with its
// directory; that needs Linux, and what the programs need. Later nothing runs:
// the programs do what the file says, on every system. An empty path is that of
// a file named after the test in testdata. A test that fails while it records
// writes no file. What is not the same in every run, such as a temporary
// directory, is kept out of the file by [Replace].
//
// When replayed, a call must be as it was recorded: program, arguments,
// variables that were set, working directory, standard input, number of send
// buffers, and order, unless there is [AnyOrder]. What differs, is missing or
// is more, fails the test at its end. Attributes, such as limits, and variables
// that were passed on from this process are neither written nor compared.
//
// Secrets of a [spawn.Command] (AddSecretArg, AddSecretEnv, SetSendBuffer) and
// of [Hide] are not written: the file has *** in their place, and wherever they
// occur in anything else, and the output that the code under test gets has it
// too, also when it is recorded.
//
// A secret is found as a whole, and so are each of its lines and what stands
// in a line behind an equals sign, as in --password=hunter2, if that has four
// bytes or more. All of these are found as they are, and quoted as in Go,
// in JSON and for a shell, escaped as in an URL, and in base64. What else
// a program makes of a secret is not found: another part, or encoding, such as
// a value inside JSON, or base64 of more than the secret. Give that to Hide.
//
// In the replay a secret is known from the call on that says so. One that
// occurs in a call before that (with [AnyOrder], in any other call) must be
// given to [Hide] too: without, the test fails and nothing is written.
//
// A recorded call has its standard input in full before it runs, and its output
// is there when it has ended: it cannot answer before its input has ended.
//
// A test with a flag -update of its own for other golden files asks
// [flag.Lookup] for this one instead of making a second.
//
// The file is text to be read and reviewed; the package's source describes it.
// A file that is not as Record would write it fails the test.
func Record(t testing.TB, path string, options ...Option) context.Context {
	t.Helper()
	if path == "" {
		name := strings.Map(func(r rune) rune {
			if strings.ContainsRune(`/\:*?"<>| `, r) {
				return '_'
			}
			return r
		}, t.Name())
		path = filepath.Join("testdata", name+".golden")
	}
	text, err := os.ReadFile(path)
	if updating() || errors.Is(err, fs.ErrNotExist) {
		return record(t, path, options)
	}
	var calls []*recorded
	if err == nil {
		calls, err = parseGolden(text)
	}
	if err != nil {
		t.Fatalf("spawntest: %s: %v", path, err)
	}
	return replay(t, path, calls, options)
}

// recorder writes a golden file.
type recorder struct {
	t       testing.TB
	path    string
	options options

	running

	mu    sync.Mutex
	calls []*recorded
	// For each of calls, the secrets that are known in its replay.
	known   [][]string
	secrets []string
	failed  error
}

func record(t testing.TB, path string, options []Option) context.Context {
	rec := &recorder{t: t, path: path}
	for _, set := range options {
		set(&rec.options)
	}
	rec.secrets = slices.Clone(rec.options.hidden)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		rec.finish()
		if t.Failed() {
			t.Logf("spawntest: %s is not recorded: the test has failed", path)
			return
		}
		if err := rec.save(); err != nil {
			t.Errorf("spawntest: %s: %v", path, err)
			return
		}
		t.Logf("spawntest: recorded %s", path)
	})
	return spawn.WithDryRun(ctx, rec.run)
}

// run runs a program for real.
func (rec *recorder) run(call *spawn.DryRunCall) {
	if !rec.begin(call) {
		return
	}
	defer rec.all.Done()
	r := &recorded{}
	rec.mu.Lock()
	rec.calls = append(rec.calls, r)
	rec.secrets = append(rec.secrets, secretsOf(call)...)
	known := rec.secrets[:len(rec.secrets):len(rec.secrets)]
	if rec.options.anyOrder { // in which the other calls may come later
		known = slices.Concat(rec.options.hidden, secretsOf(call))
	}
	rec.known = append(rec.known, known)
	rec.mu.Unlock()

	got := describe(call)
	got.stdin = call.Stdin()
	call.RunReal()
	got.runs = call.Err == nil && call.Signalled()

	rec.mu.Lock()
	defer rec.mu.Unlock()
	x := newScrubber(rec.secrets)
	call.Stdout, call.Stderr = x.scrub(call.Stdout), x.scrub(call.Stderr)
	got.stdout, got.stderr, got.exit, got.signal = call.Stdout, call.Stderr, call.ExitCode, call.Signal
	if call.Err != nil {
		got.failed = newRecordedError(call.Err)
		if errors.Is(call.Err, errors.ErrUnsupported) && rec.failed == nil {
			rec.failed = call.Err
		}
	}
	*r = *got
}

// describe returns what a program is given, but for its standard input.
func describe(call *spawn.DryRunCall) *recorded {
	r := &recorded{dir: call.Dir, buffers: len(call.Buffers)}
	for i, a := range words(call) {
		r.argv = append(r.argv, newWord(a, call.SecretArg(i)))
	}
	if call.Args[0] != call.Path {
		r.argv0 = call.Args[0]
	}
	for i, pair := range call.Env {
		if !call.PassedEnv(i) && !strings.HasPrefix(pair, "LISTEN_PID=") {
			name, value, _ := strings.Cut(pair, "=")
			r.env = append(r.env, [2]word{{text: name}, newWord(value, call.SecretEnv(i))})
		}
	}
	return r
}

func newWord(text string, secret bool) word {
	if secret {
		text = ""
	}
	return word{text, secret}
}

// save writes the file, when all programs have ended.
func (rec *recorder) save() error {
	if rec.failed != nil {
		return rec.failed
	}
	x := newScrubber(rec.secrets)
	for i, r := range rec.calls {
		known, late := newScrubber(rec.known[i]), false
		r.mapTexts(func(s string) string {
			late = late || known.scrub(s) != x.scrub(s)
			return rec.options.rename(x.scrub(s))
		})
		if late {
			return fmt.Errorf("not recorded: call %d has in it what another call, not before it, says to be a secret: give that to Hide too", i+1)
		}
	}
	text := formatGolden(rec.calls)
	if _, err := parseGolden(text); err != nil {
		// This would be a mistake in this package.
		return fmt.Errorf("not recorded: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(rec.path), 0o777); err != nil {
		return err
	}
	temp := rec.path + ".new" // a test that is stopped leaves no half of a file
	if err := os.WriteFile(temp, text, 0o666); err != nil {
		return err
	}
	return os.Rename(temp, rec.path)
}

// rename makes what is written of a text.
func (o *options) rename(s string) string {
	for _, r := range o.replaced {
		s = strings.ReplaceAll(s, r.value, r.name)
	}
	return s
}

// restore is the reverse.
func (o *options) restore(s string) string {
	for _, r := range o.replaced {
		s = strings.ReplaceAll(s, r.name, r.value)
	}
	return s
}

// mapTexts changes every text.
func (r *recorded) mapTexts(f func(string) string) {
	for i := range r.argv {
		r.argv[i].text = f(r.argv[i].text)
	}
	for i := range r.env {
		r.env[i][1].text = f(r.env[i][1].text)
	}
	for _, s := range []*string{&r.argv0, &r.dir, &r.stdin, &r.stdout, &r.stderr} {
		*s = f(*s)
	}
	if r.failed != nil {
		r.failed.op, r.failed.text = f(r.failed.op), f(r.failed.text)
	}
}

// replay returns a context in which programs do what was recorded.
func replay(t testing.TB, path string, calls []*recorded, options []Option) context.Context {
	ctx, s := New(t, options...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.golden = path
	for _, r := range calls {
		s.expected = append(s.expected, s.expect(r))
	}
	return ctx
}

// expect expects a call to be as recorded.
func (s *Script) expect(r *recorded) *Expectation {
	e := &Expectation{min: 1, max: 1, stdout: s.options.restore(r.stdout), stderr: s.options.restore(r.stderr), exit: r.exit, signal: r.signal}
	if r.runs {
		e.do = runUntilSignalled
	}
	for _, w := range r.argv {
		e.argv = append(e.argv, s.recordedWord(w))
	}
	e.checks = append(e.checks, func(rep *report, call *spawn.DryRunCall) { s.compareRecorded(rep, r, describe(call), call) })
	if r.failed != nil {
		e.startErr = &spawn.StartError{Op: s.options.restore(r.failed.op), Path: r.argv[0].text, Err: r.failed}
	} else {
		e.stdin = s.recordedText(r.stdin)
	}
	return e
}

// runUntilSignalled is a program that waits for a signal, and then ends as it
// is to.
func runUntilSignalled(call *spawn.DryRunCall) {
	signals := call.Signals()
	call.Flush()
	select {
	case <-signals:
	case <-call.Context().Done():
	}
}

// compareRecorded compares all but the arguments and standard input.
func (s *Script) compareRecorded(rep *report, want, got *recorded, call *spawn.DryRunCall) {
	for i, w := range want.argv {
		if w.secret != got.argv[i].secret {
			rep.add("argument %d: %s", i, secretNow(got.argv[i]))
		}
	}
	rep.compare("argument 0", s.recordedText(want.argv0), got.argv0, false)
	rep.compare("working directory", s.recordedText(want.dir), got.dir, false)
	rep.compareEnv(s, want.env, got.env)
	if want.buffers != got.buffers {
		rep.add("send buffers: expected %d, got %d", want.buffers, got.buffers)
	}
}

// compareEnv compares variables, in their order.
func (r *report) compareEnv(s *Script, want, got [][2]word) {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			r.add("variable %s: there is none any more", exact(want[i][0].text))
		case i >= len(want):
			r.add("variable %s: it is new", exact(got[i][0].text))
		case want[i][0] != got[i][0]:
			r.add("variable %d: expected %s, got %s", i+1, exact(want[i][0].text), exact(got[i][0].text))
			return // what follows would be more of the same
		case want[i][1].secret != got[i][1].secret:
			r.add("variable %s: %s", exact(got[i][0].text), secretNow(got[i][1]))
		default:
			r.compare("variable "+exact(want[i][0].text).String(), s.recordedWord(want[i][1]), got[i][1].text, want[i][1].secret)
		}
	}
}

// secretNow says how a word differs from what was recorded.
func secretNow(w word) string {
	if w.secret {
		return "it is a secret now"
	}
	return "it is no secret any more"
}

// recordedWord matches what a word was recorded of.
func (s *Script) recordedWord(w word) Matcher {
	if w.secret {
		return match{"a secret", func(string) bool { return true }}
	}
	return s.recordedText(w.text)
}

// recordedText matches what a text was recorded of.
func (s *Script) recordedText(text string) Matcher {
	return &recordedMatcher{exact(s.options.restore(text)), text, s}
}

// recordedMatcher compares as the file has it, where secrets are *** and names
// stand for values.
type recordedMatcher struct {
	exact
	text string
	s    *Script
}

func (m *recordedMatcher) Match(got string) bool {
	m.s.secretsMu.Lock()
	x := newScrubber(m.s.options.hidden, m.s.secrets)
	m.s.secretsMu.Unlock()
	return m.s.options.rename(x.scrub(got)) == m.text
}
