package spawn_test

import (
	"context"
	"crypto/mlkem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
)

// The kinds of errors that a running call gives.
const (
	notStarted = "*spawn.StartError"
	badExit    = "*spawn.ExitError"
	misuse     = "a bad call"
)

// isBadCall reports whether an error says that a method was called badly.
func isBadCall(err error) bool { return isA[*spawn.CallError](err) }

func isA[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// hasKind reports whether an error has the public type that is expected.
func hasKind(err error, kind string) bool {
	switch kind {
	case notStarted:
		return isA[*spawn.StartError](err)
	case badExit:
		return isA[*spawn.ExitError](err)
	}
	return isBadCall(err)
}

// errReason is an error of the caller's. The library must keep it findable.
var errReason = errors.New("this is why")

// nullFile is /dev/null, open for good: the garbage collector would close it in
// the midst of a test that counts descriptors.
var nullFile = sync.OnceValue(func() *os.File {
	f, err := os.Open(os.DevNull)
	if err != nil {
		panic(err)
	}
	return f
})

// errorChain returns an error and all that it unwraps to, and the errors in
// their exported fields.
func errorChain(err error) (all []error) {
	if err == nil {
		return nil
	}
	all = append(all, err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		all = append(all, errorChain(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, errorChain(inner)...)
		}
	}
	v := reflect.ValueOf(err)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return all
	}
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		if inner, ok := v.Field(i).Interface().(error); ok && !isNil(v.Field(i)) {
			all = append(all, errorChain(inner)...)
		}
	}
	return all
}

func isNil(v reflect.Value) bool {
	return (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && v.IsNil()
}

const module = "github.com/virspawn/spawn"

// innerType returns the name of a type of an internal package that t shows:
// itself, what it points to, an argument of it, or, for a type of this module,
// the type of a field that users see. It is empty if there is none.
func innerType(t reflect.Type, seen map[reflect.Type]bool) string {
	if t == nil || seen[t] {
		return ""
	}
	seen[t] = true
	// The name of a generic type has the paths of its arguments.
	if path := t.PkgPath() + "/" + t.Name(); strings.Contains(path, "/internal/") {
		return path
	}
	var parts []reflect.Type
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Chan:
		parts = append(parts, t.Elem())
	case reflect.Map:
		parts = append(parts, t.Key(), t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			ours := t.PkgPath() == "" || t.PkgPath() == module || strings.HasPrefix(t.PkgPath(), module+"/")
			if ours && (f.IsExported() || f.Anonymous) {
				parts = append(parts, f.Type)
			}
		}
	}
	for _, part := range parts {
		if inner := innerType(part, seen); inner != "" {
			return inner
		}
	}
	return ""
}

// shownTypes says which types of internal packages an error shows.
func shownTypes(err error) (shown []string) {
	for _, e := range errorChain(err) {
		if inner := innerType(reflect.TypeOf(e), map[reflect.Type]bool{}); inner != "" {
			shown = append(shown, fmt.Sprintf("%T shows %s, in the chain of %q", e, inner, err))
		}
	}
	return shown
}

// TestInnerTypesAreFound tests the test. The types are the standard library's,
// whose internal packages stay where they are.
func TestInnerTypesAreFound(t *testing.T) {
	hidden := reflect.TypeFor[mlkem.DecapsulationKey768]()
	inner := hidden.Field(0).Type
	find := func(t reflect.Type) string { return innerType(t, map[reflect.Type]bool{}) }
	require.Contains(t, inner.Elem().PkgPath(), "/internal/")
	for _, shows := range []reflect.Type{
		inner, reflect.SliceOf(inner), reflect.PointerTo(inner), reflect.MapOf(reflect.TypeFor[int](), inner),
		reflect.StructOf([]reflect.StructField{{Name: "Shown", Type: inner}}),
	} {
		require.NotEmpty(t, find(shows), shows)
	}
	for _, hides := range []reflect.Type{hidden, reflect.TypeFor[*spawn.StartError](), reflect.TypeFor[*spawn.ExitError]()} {
		require.Empty(t, find(hides), hides)
	}
	wrapped := fmt.Errorf("%w, %w", errors.Join(errReason), &spawn.StartError{Err: &spawn.ExitError{Err: syscall.EPERM}})
	require.Len(t, uniqueTypes(errorChain(wrapped)), 6)
}

// uniqueTypes returns each type once.
func uniqueTypes(errs []error) map[reflect.Type]bool {
	types := map[reflect.Type]bool{}
	for _, err := range errs {
		types[reflect.TypeOf(err)] = true
	}
	return types
}

// errorWatch is an observer that keeps the errors that it is told.
type errorWatch struct {
	mu      sync.Mutex
	errs    []error
	started func()
}

func (w *errorWatch) add(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.errs = append(w.errs, err)
	}
}

func (w *errorWatch) CommandStarted(context.Context, spawn.StartEvent) {
	if w.started != nil {
		w.started()
	}
}

func (w *errorWatch) CommandExited(_ context.Context, e spawn.ExitEvent) { w.add(e.Err) }
func (w *errorWatch) CommandFailed(_ context.Context, e spawn.FailEvent) { w.add(e.Err) }

// failsToo is a stream of the caller's that always fails.
type failsToo struct{}

func (failsToo) Read([]byte) (int, error)  { return 0, errReason }
func (failsToo) Write([]byte) (int, error) { return 0, errReason }

// failsBefore is a hook that fails with an error of the caller's.
var failsBefore = spawn.RegisterHook("error-chain", func(string) error {
	return fmt.Errorf("the hook fails: %w", syscall.ENOTTY)
})

// failure is one way for a command to fail.
type failure struct {
	command func(dir string) *spawn.Command
	kind    string
	is      error // what errors.Is finds, if not nil
	explain bool  // Explain fails too
	exec    bool  // Exec fails too
	during  bool  // the context ends when the program runs
	// context makes the context of the call, if not nil.
	context func(context.Context) context.Context
	// around sets something for the whole process, if not nil.
	around func() (restore func())
	// except has the kinds for calls that fail in another way, "" for those
	// that do not fail.
	except map[string]string
}

func program(script string) func(string) *spawn.Command {
	return func(string) *spawn.Command { return spawn.New("/bin/sh", "-c", script) }
}

// dry makes functions stand in for programs.
func dry(f spawn.DryRunFunc) func() func() {
	return func() func() { return spawn.SetDryRun(f) }
}

// An exit status is no error of RunStatus.
var statusIsNoError = map[string]string{"RunStatus": ""}

// CombinedOutput needs the stream that another writer has.
var stderrIsTaken = map[string]string{"CombinedOutput": misuse}

var failures = map[string]failure{
	"a name that is not in PATH": {command: func(string) *spawn.Command { return spawn.New("nonesuch-program") },
		kind: notStarted, is: exec.ErrNotFound, explain: true, exec: true},
	"a path that is not there": {command: func(string) *spawn.Command { return spawn.New("/nonexistent/program") },
		kind: notStarted, is: fs.ErrNotExist, exec: true},
	"a file that is no program": {command: func(dir string) *spawn.Command { return spawn.New(filepath.Join(dir, "garbage")) },
		kind: notStarted, is: syscall.ENOEXEC, exec: true},
	"a file that may not be executed": {command: func(dir string) *spawn.Command { return spawn.New(filepath.Join(dir, "data")) },
		kind: notStarted, is: fs.ErrPermission, exec: true},
	"a directory that is not there": {command: func(string) *spawn.Command { return spawn.New("/bin/true").SetWorkingDirectory("/nonexistent") },
		kind: notStarted, is: fs.ErrNotExist, exec: true},
	"a limit that nobody may set": {command: func(string) *spawn.Command { return spawn.New("/bin/true").SetMaxFiles(math.MaxInt64) },
		kind: notStarted, is: syscall.EPERM, exec: true},
	"a root that is not there": {command: func(string) *spawn.Command { return spawn.New("/bin/true").SetChroot("/nonexistent") },
		kind: notStarted},
	"a file that is no namespace": {command: func(string) *spawn.Command {
		return spawn.New("/bin/true").JoinNamespace(spawn.NetworkNamespace, nullFile())
	}, kind: notStarted},
	"a pid file that cannot be made": {command: func(string) *spawn.Command { return spawn.New("/bin/true").SetPidFile("/nonexistent/pid") },
		kind: notStarted, is: fs.ErrNotExist},
	"a pid file that is none": {command: func(dir string) *spawn.Command { return spawn.New("/bin/true").SetPidFile(dir) },
		kind: notStarted},
	"a hook that fails": {command: func(string) *spawn.Command { return spawn.New("/bin/true").SetPreExecHook(failsBefore, "") },
		kind: notStarted, is: syscall.ENOTTY},

	"a bad value": {command: func(string) *spawn.Command { return spawn.New("/bin/true").SetUmask(-1) },
		kind: misuse, explain: true, exec: true},
	"a bad argument": {command: func(string) *spawn.Command { return spawn.New("/bin/true", "a\x00b") },
		kind: misuse, explain: true, exec: true},
	"no name": {command: func(string) *spawn.Command { return spawn.New("") },
		kind: misuse, explain: true, exec: true},
	"calls that exclude each other": {command: func(string) *spawn.Command {
		return spawn.New("/bin/true").SetUIDMap(spawn.IDMap{Size: 1})
	}, kind: misuse, explain: true, exec: true},
	"a cgroup that is none": {command: func(dir string) *spawn.Command { return spawn.New("/bin/true").SetCgroup("/proc") },
		kind: misuse, exec: true},
	"a terminal that is none": {command: func(string) *spawn.Command {
		return spawn.New("/bin/true").SetControllingTTY(nullFile())
	}, kind: misuse, is: syscall.ENOTTY, exec: true},
	"a processor that is not there": {command: func(string) *spawn.Command { return spawn.New("/bin/true").SetCPUAffinity(1 << 20) },
		kind: misuse, exec: true},

	"an exit status": {command: program("echo text; echo text >&2; exit 3"), kind: badExit, except: statusIsNoError},
	"a signal":       {command: program("kill -KILL $$"), kind: badExit, except: statusIsNoError},
	"a writer that fails": {command: func(string) *spawn.Command {
		return spawn.New("/bin/sh", "-c", "echo text >&2").SetStderr(failsToo{})
	}, kind: badExit, is: errReason, except: stderrIsTaken},
	"a reader that fails": {command: func(string) *spawn.Command { return spawn.New("/bin/cat").SetStdin(failsToo{}) },
		kind: badExit, is: errReason},
	"a reader that fails and a status": {command: func(string) *spawn.Command {
		return spawn.New("/bin/sh", "-c", "cat; exit 3").SetStdin(failsToo{})
	}, kind: badExit, is: errReason},

	"a context that has ended": {command: program("exit 0"), kind: notStarted, is: errReason,
		context: func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(errReason)
			return ctx
		}},
	"a deadline that has passed": {command: program("exit 0"), kind: notStarted, is: context.DeadlineExceeded,
		context: func(ctx context.Context) context.Context {
			ctx, cancel := context.WithDeadline(ctx, time.Unix(1, 0))
			cancel()
			return ctx
		}},
	"a context that ends":                    {command: program("exec sleep 1000"), kind: badExit, is: errReason, during: true},
	"a context that ends, and a kill":        {command: killedBy(spawn.KillProcess), kind: badExit, is: errReason, during: true},
	"a context that ends, and a group":       {command: killedBy(spawn.KillGroup), kind: badExit, is: errReason, during: true},
	"a context that ends, and a reader lags": {command: lagging, kind: badExit, is: errReason, during: true},

	"a policy that refuses": {command: program("exit 0"), kind: notStarted, is: errReason, explain: true, exec: true,
		around: func() func() {
			return spawn.SetPolicy(func(*spawn.Command) error { return fmt.Errorf("refused: %w", errReason) })
		}},
	// The bad call is what the start error wraps.
	"a policy that calls badly": {command: program("exit 0"), kind: notStarted, explain: true, exec: true,
		around: func() func() {
			return spawn.SetPolicy(func(c *spawn.Command) error { c.SetUmask(-1); return nil })
		}},

	"a dry run with an error": {command: program("exit 0"), kind: notStarted, is: errReason, exec: true,
		around: dry(func(call *spawn.DryRunCall) { call.Err = errReason })},
	"a dry run with a start error": {command: program("exit 0"), kind: notStarted, is: errReason, exec: true,
		around: dry(func(call *spawn.DryRunCall) { call.Err = &spawn.StartError{Op: "op", Path: "path", Err: errReason} })},
	"a dry run with a status": {command: program("exit 0"), kind: badExit, except: statusIsNoError, exec: true,
		around: dry(func(call *spawn.DryRunCall) { call.ExitCode = 3 })},
	"a dry run with a signal": {command: program("exit 0"), kind: badExit, except: statusIsNoError, exec: true,
		around: dry(func(call *spawn.DryRunCall) { call.Signal = syscall.SIGKILL })},
	"a dry run with a status that is none": {command: program("exit 0"), kind: notStarted, exec: true,
		around: dry(func(call *spawn.DryRunCall) { call.ExitCode = 256 })},
	"a dry run that does not return": {command: program("exit 0"), kind: notStarted, exec: true,
		around: dry(func(*spawn.DryRunCall) { runtime.Goexit() })},
	"a dry run with a reader that fails": {command: func(string) *spawn.Command { return spawn.New("cat").SetStdin(failsToo{}) },
		kind: badExit, is: errReason, around: dry(func(call *spawn.DryRunCall) { _ = call.Stdin() })},
	"a dry run with a writer that fails": {command: func(string) *spawn.Command { return spawn.New("cat").SetStderr(failsToo{}) },
		kind: badExit, is: errReason, around: dry(func(call *spawn.DryRunCall) { call.Stderr = "text" }), except: stderrIsTaken},
	"a dry run whose context ends": {command: program("exit 0"), kind: badExit, is: errReason, during: true,
		around: dry(func(call *spawn.DryRunCall) { call.Flush(); <-call.Context().Done() })},
	"a dry run that runs": {command: func(string) *spawn.Command { return spawn.New("/nonexistent/program") },
		kind: notStarted, is: fs.ErrNotExist, around: dry(func(call *spawn.DryRunCall) { call.RunReal() })},
	"a dry run that runs, and a status": {command: program("exit 3"), kind: badExit, except: statusIsNoError,
		around: dry(func(call *spawn.DryRunCall) { call.RunReal() })},
}

// killedBy returns a program that SIGTERM does not end.
func killedBy(mode spawn.KillMode) func(string) *spawn.Command {
	script := "trap '' TERM; exec sleep 1000"
	if mode == spawn.KillGroup {
		script = "trap '' TERM; sleep 1000 & exec sleep 1000"
	}
	return func(string) *spawn.Command {
		return spawn.New("/bin/sh", "-c", script).SetKillMode(mode).SetGracePeriod(10 * time.Millisecond)
	}
}

// lagging is a program that leaves behind one that holds its output open.
func lagging(string) *spawn.Command {
	return spawn.New("/bin/sh", "-c", "sleep 2 & exec sleep 1000").SetInput([]byte("text"))
}

// runningCalls are all that take a context.
var runningCalls = map[string]func(ctx context.Context, c *spawn.Command) error{
	"Run": func(ctx context.Context, c *spawn.Command) error { return c.Run(ctx) },
	"Output": func(ctx context.Context, c *spawn.Command) error {
		_, err := c.Output(ctx)
		return err
	},
	"CombinedOutput": func(ctx context.Context, c *spawn.Command) error {
		_, err := c.CombinedOutput(ctx)
		return err
	},
	"RunStatus": func(ctx context.Context, c *spawn.Command) error {
		_, err := c.RunStatus(ctx)
		return err
	},
	"RunRegex": func(ctx context.Context, c *spawn.Command) error {
		return c.RunRegex(ctx, regexp.MustCompile("."), func([]string) error { return nil })
	},
	"Lines": func(ctx context.Context, c *spawn.Command) (err error) {
		for _, err = range c.Lines(ctx) {
		}
		return err
	},
	"Records": func(ctx context.Context, c *spawn.Command) (err error) {
		for _, err = range c.Records(ctx, 0) {
		}
		return err
	},
	"Start and Wait": func(ctx context.Context, c *spawn.Command) error {
		p, err := c.Start(ctx)
		if err != nil {
			return err
		}
		return p.Wait()
	},
	"a handshake": func(ctx context.Context, c *spawn.Command) error {
		p, err := c.RequireHandshake().Start(ctx)
		if err != nil {
			return err
		}
		waitErr := p.HandshakeWait(context.WithoutCancel(ctx))
		if err := p.HandshakeNotify(); err != nil {
			return errors.Join(err, waitErr, p.Wait())
		}
		return p.Wait()
	},
}

// chainDir makes the files that the commands name.
func chainDir(t *testing.T) string {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data"), []byte("#!/bin/sh\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "garbage"), []byte("\x01\x02\x03\x04"), 0o700))
	return dir
}

// chainPrefix begins the argument by which this test binary calls Exec.
const chainPrefix = "error-chain:"

func init() {
	if len(os.Args) != 3 || !strings.HasPrefix(os.Args[1], chainPrefix) {
		return
	}
	name := strings.TrimPrefix(os.Args[1], chainPrefix)
	f := failures[name]
	if f.around != nil {
		f.around()
	}
	watch := &errorWatch{}
	err := f.command(os.Args[2]).SetObserver(watch).Exec()
	problems := checkFailure("Exec", f, err)
	for _, err := range watch.errs {
		problems = append(problems, shownTypes(err)...)
	}
	for _, problem := range problems {
		fmt.Println(problem)
	}
	fmt.Println("checked")
	os.Exit(0)
}

// checkFailure says what is wrong with the error of a call.
func checkFailure(call string, f failure, err error) (problems []string) {
	kind, is := f.kind, f.is
	if k, ok := f.except[call]; ok {
		kind, is = k, nil
	}
	switch {
	case kind == "" && err != nil:
		problems = append(problems, fmt.Sprintf("there is an error: %v", err))
	case kind == "":
	case err == nil:
		return []string{"there is no error"}
	case !hasKind(err, kind):
		problems = append(problems, fmt.Sprintf("the error is no %s, but %T: %v", kind, err, err))
	case is != nil && !errors.Is(err, is):
		problems = append(problems, fmt.Sprintf("the error does not wrap %v: %v", is, err))
	}
	return append(problems, shownTypes(err)...)
}

// TestNoErrorShowsAnInnerType: users can name the type of whatever they find
// in an error, because none of them belongs to an internal package.
func TestNoErrorShowsAnInnerType(t *testing.T) {
	dir := chainDir(t)
	for name, f := range failures {
		t.Run(name, func(t *testing.T) {
			for call, run := range runningCalls {
				t.Run(call, func(t *testing.T) {
					told, err := fail(t, dir, f, run)
					require.Empty(t, checkFailure(call, f, err))
					for _, err := range told {
						require.Empty(t, shownTypes(err), "what observers are told")
					}
					if err != nil {
						require.NotEmpty(t, told, "observers are told nothing")
					}
				})
			}
			if f.explain {
				t.Run("Explain", func(t *testing.T) {
					if f.around != nil {
						defer f.around()()
					}
					_, err := f.command(dir).Explain()
					require.Empty(t, checkFailure("Explain", f, err))
				})
			}
			if f.exec {
				t.Run("Exec", func(t *testing.T) { execInAChild(t, name, dir) })
			}
		})
	}
}

// fail runs a command of a failure, and returns the error, and those that
// observers are told.
func fail(t *testing.T, dir string, f failure, run func(context.Context, *spawn.Command) error) (told []error, err error) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	if f.context != nil {
		ctx = f.context(ctx)
	}
	if f.around != nil {
		defer f.around()()
	}
	watch, all := &errorWatch{}, &errorWatch{}
	if f.during {
		watch.started = func() { cancel(errReason) }
	}
	defer spawn.SetObserver(all)()
	err = run(ctx, f.command(dir).SetObserver(watch))
	return slices.Concat(watch.errs, all.errs), err
}

// execInAChild calls Exec in a child, because it may change the process and
// might succeed.
func execInAChild(t *testing.T, name, dir string) {
	self, err := os.Executable()
	require.NoError(t, err)
	out, err := exec.Command(self, chainPrefix+name, dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "checked\n", string(out))
}

func TestNoErrorOfTheFunctionRunShowsAnInnerType(t *testing.T) {
	dir := chainDir(t)
	for _, test := range []struct {
		name string
		args []string
		kind string
	}{
		{"nonesuch-program", nil, notStarted},
		{"/nonexistent/program", nil, notStarted},
		{filepath.Join(dir, "data"), nil, notStarted},
		{filepath.Join(dir, "garbage"), nil, notStarted},
		{"/bin/sh", []string{"-c", "exit 3"}, badExit},
		{"/bin/sh", []string{"-c", "kill -KILL $$"}, badExit},
		{"/bin/sh", []string{"\x00"}, misuse},
		{"", nil, misuse},
	} {
		err := spawn.Run(t.Context(), test.name, test.args...)
		require.Empty(t, checkFailure("Run", failure{kind: test.kind}, err), "%q %q", test.name, test.args)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errReason)
	err := spawn.Run(ctx, "/bin/true")
	require.Empty(t, checkFailure("Run", failure{kind: notStarted, is: errReason}, err))
}

// TestNoErrorOfALoopShowsAnInnerType is about functions of the caller's.
func TestNoErrorOfALoopShowsAnInnerType(t *testing.T) {
	c := spawn.New("/bin/sh", "-c", "echo text; exec sleep 1000").SetGracePeriod(0)
	line := regexp.MustCompile("text")
	for name, err := range map[string]error{
		"the function fails": c.RunRegex(t.Context(), line, func([]string) error { return errReason }),
		"it gives up":        c.RunRegex(t.Context(), line, func([]string) error { return fmt.Errorf("enough: %w", errReason) }),
	} {
		require.Empty(t, checkFailure("RunRegex", failure{kind: badExit, is: errReason}, err), name)
	}
	for name, err := range map[string]error{
		"no expression": c.RunRegex(t.Context(), nil, func([]string) error { return nil }),
		"no function":   c.RunRegex(t.Context(), line, nil),
	} {
		require.Empty(t, checkFailure("RunRegex", failure{kind: misuse}, err), name)
	}
}

// anySignal is no signal that the system knows.
type anySignal struct{}

func (anySignal) Signal()        {}
func (anySignal) String() string { return "none" }

// TestNoErrorOfAProcessShowsAnInnerType calls all methods of programs that have
// ended, in all ways that there are.
func TestNoErrorOfAProcessShowsAnInnerType(t *testing.T) {
	ctx := t.Context()
	for name, around := range map[string]func() func(){
		"run": func() func() { return func() {} },
		"dry": dry(func(call *spawn.DryRunCall) { call.ExitCode = 3 }),
	} {
		t.Run(name, func(t *testing.T) {
			defer around()()
			for name, c := range map[string]*spawn.Command{
				"plain":    spawn.New("/bin/sh", "-c", "exit 3"),
				"pipes":    spawn.New("/bin/sh", "-c", "exit 3").PipeStdin().PipeStdout().PipeStderr(),
				"terminal": spawn.New("/bin/sh", "-c", "exit 3").SetPTY(24, 80),
			} {
				p, err := c.Start(ctx)
				require.NoError(t, err, name)
				if p.PTY() == nil {
					require.Empty(t, checkFailure("Resize", failure{kind: misuse}, p.Resize(1, 1)), name)
				}
				require.Empty(t, checkFailure("Signal", failure{kind: misuse}, p.Signal(anySignal{})), name)
				require.Empty(t, checkFailure("HandshakeWait", failure{kind: misuse}, p.HandshakeWait(ctx)), name)
				require.Empty(t, checkFailure("HandshakeNotify", failure{kind: misuse}, p.HandshakeNotify()), name)
				if in := p.Stdin(); in != nil {
					// a dry run waits for it
					require.NoError(t, in.Close(), name)
				}
				<-p.Done()
				for _, err := range errorsOfTheDead(t, p) {
					require.Empty(t, shownTypes(err), name)
				}
				require.Empty(t, checkFailure("Wait", failure{kind: badExit}, p.Wait()), name)
				require.ErrorIs(t, p.Signal(syscall.SIGTERM), os.ErrProcessDone, name)
			}
		})
	}
}

// errorsOfTheDead returns the errors of what can be called when a program
// has ended.
func errorsOfTheDead(t *testing.T, p *spawn.Process) (errs []error) {
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	add(p.Signal(syscall.SIGTERM))
	add(p.Signal(nil))
	add(p.Abort())
	add(p.HandshakeWait(t.Context()))
	add(p.HandshakeNotify())
	add(p.Resize(1, 1))
	b := make([]byte, 1)
	for range 2 { // open, and then closed
		if in := p.Stdin(); in != nil {
			_, err := in.Write(b)
			add(err)
			add(in.Close())
		}
		for _, out := range []io.ReadCloser{p.Stdout(), p.Stderr()} {
			if out != nil {
				_, err := out.Read(b)
				add(err)
				add(out.Close())
			}
		}
		if tty := p.PTY(); tty != nil {
			_, err := tty.Write(b)
			add(err)
			_, err = tty.Read(b)
			add(err)
			add(p.Resize(2, 2))
			add(tty.Close())
		}
	}
	add(p.Wait())
	return errs
}

// TestNoErrorOfAHandshakeShowsAnInnerType ends children before their programs.
func TestNoErrorOfAHandshakeShowsAnInnerType(t *testing.T) {
	start := func(ctx context.Context) *spawn.Process {
		p, err := spawn.New("/bin/true").RequireHandshake().Start(ctx)
		require.NoError(t, err)
		return p
	}
	check := func(kind string, is, err error) {
		t.Helper()
		require.Empty(t, checkFailure("a handshake", failure{kind: kind, is: is}, err))
	}
	for _, around := range []func() func(){func() func() { return func() {} }, dry(func(*spawn.DryRunCall) {})} {
		restore := around()
		p := start(t.Context())
		check(notStarted, nil, p.Wait())
		check(notStarted, nil, p.HandshakeWait(t.Context()))
		require.Empty(t, shownTypes(p.HandshakeNotify()))

		p = start(t.Context())
		require.NoError(t, p.HandshakeWait(t.Context()))
		require.NoError(t, p.Abort())
		check(notStarted, nil, p.HandshakeWait(t.Context()))
		check(notStarted, nil, p.Wait())

		p = start(t.Context())
		require.NoError(t, p.HandshakeNotify())
		check(misuse, nil, p.HandshakeNotify())
		require.NoError(t, p.Wait())

		ctx, cancel := context.WithCancelCause(t.Context())
		p = start(ctx)
		require.NoError(t, p.HandshakeWait(ctx))
		cancel(errReason)
		<-p.Done()
		check(notStarted, errReason, p.Wait())

		// The context of the wait, and not of the start, may end too.
		p = start(t.Context())
		if err := p.HandshakeWait(ctx); err != nil {
			require.Empty(t, shownTypes(err))
			require.ErrorIs(t, err, errReason)
		}
		require.NoError(t, p.Abort())
		restore()
	}
}

// TestNoErrorOfADaemonShowsAnInnerType is about starts of daemons, which other
// processes take part in.
func TestNoErrorOfADaemonShowsAnInnerType(t *testing.T) {
	dir := chainDir(t)
	daemon := func(path string) *spawn.Command { return spawn.New(path).Daemonize() }
	pipe := func(c *spawn.Command) *spawn.Command { return c.PipeStdout() }
	for name, test := range map[string]struct {
		c    *spawn.Command
		kind string
		is   error
	}{
		"no program":      {daemon("/nonexistent/program"), notStarted, fs.ErrNotExist},
		"not in PATH":     {daemon("nonesuch-program"), notStarted, exec.ErrNotFound},
		"not executable":  {daemon(filepath.Join(dir, "data")), notStarted, fs.ErrPermission},
		"no directory":    {daemon("/bin/true").SetWorkingDirectory("/nonexistent"), notStarted, fs.ErrNotExist},
		"a limit":         {daemon("/bin/true").SetMaxFiles(math.MaxInt64), notStarted, syscall.EPERM},
		"a hook":          {daemon("/bin/true").SetPreExecHook(failsBefore, ""), notStarted, syscall.ENOTTY},
		"a pid file":      {daemon("/bin/true").SetPidFile("/nonexistent/pid"), notStarted, fs.ErrNotExist},
		"a pipe":          {pipe(daemon("/bin/true")), misuse, nil},
		"a reader":        {daemon("/bin/true").SetStdin(failsToo{}), misuse, nil},
		"a death signal":  {daemon("/bin/true").SetParentDeathSignal(syscall.SIGTERM), misuse, nil},
		"a terminal":      {daemon("/bin/true").SetPTY(1, 1), misuse, nil},
		"a bad call else": {daemon("/bin/true").SetUmask(-1), misuse, nil},
	} {
		t.Run(name, func(t *testing.T) {
			watch := &errorWatch{}
			_, err := test.c.SetObserver(watch).Start(t.Context())
			require.Empty(t, checkFailure("Start", failure{kind: test.kind, is: test.is}, err))
			for _, err := range watch.errs {
				require.Empty(t, shownTypes(err), "what observers are told")
			}
			require.NotEmpty(t, watch.errs)
		})
	}
	for name, run := range runningCalls {
		if name == "Start and Wait" || name == "a handshake" {
			continue
		}
		require.Empty(t, checkFailure(name, failure{kind: misuse}, run(t.Context(), daemon("/bin/true"))), name)
	}
}

// TestNoErrorOfWhatTheMachineMayLackShowsAnInnerType takes any error, or none:
// it depends on the kernel and on privileges which one there is.
func TestNoErrorOfWhatTheMachineMayLackShowsAnInnerType(t *testing.T) {
	dir := chainDir(t)
	c := func() *spawn.Command { return spawn.New("/bin/true") }
	for name, c := range map[string]*spawn.Command{
		"an unknown user":      c().SetUser("nonesuch-user"),
		"another user":         c().SetUID(1).SetGID(1),
		"groups":               c().SetGroups(1, 2, 3),
		"capabilities":         c().SetBoundingCaps(),
		"a profile":            c().SetAppArmorProfile("nonesuch-profile"),
		"a context":            c().SetSELinuxLabel("nonesuch_u:r:t:s0"),
		"a label":              c().SetSmackLabel("nonesuch"),
		"core scheduling":      c().SetRunAlone(),
		"another's cores":      c().SetRunAmong(math.MaxInt32),
		"a scheduler":          c().SetScheduler(spawn.Scheduler{Policy: 1, Priority: 99}),
		"a priority":           c().SetNice(-20),
		"a class for the disk": c().SetIOPriority(spawn.IOPriorityRealtime, 0),
		"memory of a node":     c().SetNUMAPolicy(spawn.NUMABind, 63),
		"a score":              c().SetOOMScoreAdj(-1000),
		"a namespace":          c().SetNamespaces(spawn.NetworkNamespace),
		"a user namespace":     c().SetNamespaces(spawn.UserNamespace).SetUIDMap(spawn.IDMap{HostID: 1 << 30, Size: 1 << 30}).SetGIDMap(spawn.IDMap{HostID: 1 << 30, Size: 1}).SetUID(0).SetGID(0),
		"a keyring":            c().SetKeyring(spawn.KeyringPrivate),
		"securebits":           c().SetSecurebits(1),
		"Landlock":             c().SetLandlock(spawn.Landlock{Paths: []spawn.LandlockPath{{Path: "/nonexistent", Rights: spawn.LandlockReadOnly}}}),
		"a later Landlock":     c().SetLandlock(spawn.Landlock{Version: 6}),
		"a root":               c().SetChroot(dir),
		"a tree":               c().SetKillMode(spawn.KillTree),
	} {
		t.Run(name, func(t *testing.T) {
			for call, run := range runningCalls {
				err := run(t.Context(), c.Clone())
				require.Empty(t, shownTypes(err), call)
				if err != nil {
					require.True(t, hasKind(err, notStarted) || hasKind(err, badExit) || isBadCall(err), "%s: %T: %v", call, err, err)
				}
			}
			_, err := c.Explain()
			require.Empty(t, shownTypes(err))
			if err != nil {
				require.True(t, hasKind(err, notStarted) || isBadCall(err), "%T: %v", err, err)
			}
		})
	}
}
