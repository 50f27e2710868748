package spawn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
)

// noted is an Observer that keeps what it is told.
type noted struct {
	mu     sync.Mutex
	starts []spawn.StartEvent
	exits  []spawn.ExitEvent
	fails  []spawn.FailEvent
	order  []string

	// Called in the methods, unless nil.
	onStart func(spawn.StartEvent)
	onExit  func(spawn.ExitEvent)
}

func (n *noted) CommandStarted(_ context.Context, e spawn.StartEvent) {
	n.mu.Lock()
	n.starts, n.order = append(n.starts, e), append(n.order, "start")
	n.mu.Unlock()
	if n.onStart != nil {
		n.onStart(e)
	}
}

func (n *noted) CommandExited(_ context.Context, e spawn.ExitEvent) {
	n.mu.Lock()
	n.exits, n.order = append(n.exits, e), append(n.order, "exit")
	n.mu.Unlock()
	if n.onExit != nil {
		n.onExit(e)
	}
}

func (n *noted) CommandFailed(_ context.Context, e spawn.FailEvent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fails, n.order = append(n.fails, e), append(n.order, "fail")
}

// told returns the kinds of the events so far.
func (n *noted) told() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.order, " ")
}

// observe observes the whole process until the test ends.
func observe(t *testing.T) *noted {
	n := &noted{}
	t.Cleanup(spawn.SetObserver(n))
	return n
}

// requireRun requires one start and one exit of one run.
func requireRun(t *testing.T, n *noted, name string) (spawn.StartEvent, spawn.ExitEvent) {
	t.Helper()
	require.Equal(t, "start exit", n.told(), name)
	require.Equal(t, n.starts[0], n.exits[0].StartEvent, name)
	require.NotZero(t, n.starts[0].PID, name)
	require.False(t, n.starts[0].Time.IsZero(), name)
	require.Positive(t, n.exits[0].Duration, name)
	return n.starts[0], n.exits[0]
}

func TestObserverIsToldOfDryRunsInEveryWay(t *testing.T) {
	checkDryLeaks(t)
	ids := map[uint64]bool{}
	for name, run := range testkit.Ways {
		n := observe(t)
		err := run(testkit.Dry(testkit.Says("", "why\n", 3)), spawn.New(testkit.Missing).AddSecretArg("hidden"))
		start, exit := requireRun(t, n, name)
		require.True(t, start.DryRun, name)
		require.Equal(t, testkit.Missing+" ***", start.Command, name)
		require.Equal(t, testkit.Missing, start.Path, name)
		require.Equal(t, 3, exit.Status.ExitCode, name)
		require.ErrorContains(t, exit.Err, "exit status 3", name)
		if err != nil && name != "RunStatus" {
			require.Contains(t, err.Error(), exit.Err.Error(), name)
		}
		require.False(t, ids[start.ID], "a new number for each run")
		ids[start.ID] = true

		n = observe(t)
		err = run(testkit.Dry(func(d *spawn.DryRunCall) { d.Err = fs.ErrNotExist }), spawn.New(testkit.Missing))
		require.Equal(t, "fail", n.told(), name)
		require.Equal(t, err, n.fails[0].Err, name)
		require.Equal(t, testkit.Missing, n.fails[0].Path, name)
		require.Zero(t, n.fails[0].PID, name)
	}
	n := observe(t)
	restore := spawn.SetDryRun(testkit.Says("", "", 0))
	defer restore()
	require.NoError(t, spawn.New(testkit.Missing).Exec())
	start, _ := requireRun(t, n, "Exec")
	require.True(t, start.Exec)
	require.True(t, start.DryRun)
}

func TestObserverIsToldOfEachFailureOnce(t *testing.T) {
	checkDryLeaks(t)
	ended, cancel := context.WithCancel(testkit.Dry(func(*spawn.DryRunCall) { t.Error("called") }))
	cancel()
	for name, run := range testkit.Ways {
		for what, c := range map[string]*spawn.Command{
			"bad call":        spawn.New(testkit.Missing).SetUmask(-1),
			"ended context":   spawn.New(testkit.Missing),
			"taken stream":    spawn.New(testkit.Missing).PipeStdout().RequireHandshake(),
			"does not go":     spawn.New(testkit.Missing).SetChroot("/x"),
			"secret with NUL": spawn.New(testkit.Missing).AddSecretArg("a\x00b"),
		} {
			n := observe(t)
			err := run(ended, c)
			require.Error(t, err)
			require.Equal(t, "fail", n.told(), "%s, %s", name, what)
			require.Equal(t, err, n.fails[0].Err)
			require.Equal(t, testkit.Missing, n.fails[0].Path)
		}
	}
	n := observe(t)
	require.Error(t, spawn.New(testkit.Missing).PipeStdout().Exec())
	require.Equal(t, "fail", n.told())
	require.True(t, n.fails[0].Exec)
}

func TestObserverOfADryHandshake(t *testing.T) {
	checkDryLeaks(t)
	n := observe(t)
	p, err := spawn.New(testkit.Missing).RequireHandshake().Start(testkit.Dry(testkit.Says("", "", 0)))
	require.NoError(t, err)
	require.NoError(t, p.HandshakeWait(context.Background()))
	require.Empty(t, n.told())
	require.NoError(t, p.HandshakeNotify())
	require.True(t, strings.HasPrefix(n.told(), "start"), n.told())
	require.NoError(t, p.Wait())
	requireRun(t, n, "")

	n = observe(t)
	p, err = spawn.New(testkit.Missing).RequireHandshake().Start(testkit.Dry(testkit.Says("", "", 0)))
	require.NoError(t, err)
	require.Error(t, p.Wait())
	require.Equal(t, "fail", n.told())
	require.Equal(t, p.Wait(), n.fails[0].Err)
}

func TestObserversOfPackageAndCommandAreBothTold(t *testing.T) {
	var order []string
	note := func(name string) *noted {
		return &noted{onStart: func(spawn.StartEvent) { order = append(order, name) }}
	}
	var text bytes.Buffer
	logger := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
		order = append(order, "log")
		return text.Write(b)
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	restore := spawn.SetObserver(note("package"))
	c := spawn.New(testkit.Missing).SetObserver(note("command")).SetLogger(logger)
	ctx := testkit.Dry(testkit.Says("", "", 0))
	require.NoError(t, c.Run(ctx))
	require.Equal(t, []string{"package", "command", "log", "log"}, order)
	restore()
	order = nil
	require.NoError(t, c.Run(ctx))
	require.Equal(t, []string{"command", "log", "log"}, order)
	order = nil
	require.NoError(t, c.SetObserver(nil).SetLogger(nil).Run(ctx))
	require.Empty(t, order)

	outer, inner := observe(t), &noted{}
	restore = spawn.SetObserver(inner)
	restoreNil := spawn.SetObserver(nil)
	require.NoError(t, c.Run(ctx))
	restoreNil()
	require.NoError(t, c.Run(ctx))
	restore()
	require.Equal(t, "start exit", inner.told())
	require.NoError(t, c.Run(ctx))
	require.Equal(t, "start exit", outer.told())
}

var pidText = regexp.MustCompile(`pid=\d+`)

// writerFunc is a writer that cannot be compared.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// logTo returns a logger of this level without times, and what it has logged.
func logTo(level slog.Level) (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case slog.TimeKey, "duration":
			return slog.Attr{}
		}
		return a
	}})), &b
}

func TestLoggerSaysWhatRan(t *testing.T) {
	logger, text := logTo(slog.LevelDebug)
	restore := spawn.SetLogger(logger)
	c := spawn.New(testkit.Missing, "a b").AddSecretArg("hidden").AddSecretEnv("TOKEN", "hidden").AddEnv("LANG", "C")
	require.Error(t, c.Run(testkit.Dry(testkit.Says("", "also hidden\n", 3))))
	require.Error(t, c.Run(testkit.Dry(func(d *spawn.DryRunCall) { d.Err = fs.ErrNotExist })))
	require.Error(t, c.Clone().SetUmask(-1).Run(testkit.Dry(nil)))
	reader := errors.New("reader failed")
	require.ErrorIs(t, spawn.New(testkit.Missing).SetStdin(failingReader{reader}).
		Run(testkit.Dry(func(d *spawn.DryRunCall) { d.Stdin() })), reader)
	restore()
	line := `command="` + testkit.Missing + ` 'a b' ***" path=` + testkit.Missing
	want := fmt.Sprintf(`level=DEBUG msg="program started" %s pid=PID dry_run=true
level=DEBUG msg="program exited" %s pid=PID status="exit status 3" dry_run=true
level=DEBUG msg="program not started" %s err="spawn: cannot start \"%s\": start: file does not exist" dry_run=true
level=DEBUG msg="program not started" %s err="spawn: SetUmask: the mask -01 is not in 0 to 0777"
level=DEBUG msg="program started" command=%s path=%s pid=PID dry_run=true
level=DEBUG msg="program exited" command=%s path=%s pid=PID status="exit status 0" err="stdin: reader failed" dry_run=true
`, line, line, line, testkit.Missing, line, testkit.Missing, testkit.Missing, testkit.Missing, testkit.Missing)
	got := pidText.ReplaceAllString(text.String(), "pid=PID")
	require.Equal(t, want, got)
}

func TestLoggerOfTheCommandWins(t *testing.T) {
	ctx := testkit.Dry(testkit.Says("", "", 0))
	all, allText := logTo(slog.LevelDebug)
	own, ownText := logTo(slog.LevelDebug)
	defer spawn.SetLogger(all)()
	require.NoError(t, spawn.New(testkit.Missing).SetLogger(own).Run(ctx))
	require.Empty(t, allText)
	require.Contains(t, ownText.String(), "program exited")
	require.NoError(t, spawn.New(testkit.Missing).SetLogger(nil).Run(ctx))
	require.Empty(t, allText)
	info, infoText := logTo(slog.LevelInfo)
	require.NoError(t, spawn.New(testkit.Missing).SetLogger(info).Run(ctx))
	require.Empty(t, infoText)
	require.NoError(t, spawn.New(testkit.Missing).Run(ctx))
	require.Contains(t, allText.String(), "program exited")
}

// ctxHandler notes what the contexts of records have.
type ctxHandler struct {
	slog.Handler
	seen *[]any
}

func (h ctxHandler) Handle(ctx context.Context, r slog.Record) error {
	*h.seen = append(*h.seen, ctx.Value(ctxHandler{}))
	return h.Handler.Handle(ctx, r)
}

func TestLoggerGetsTheContextOfTheCall(t *testing.T) {
	var seen []any
	logger, _ := logTo(slog.LevelDebug)
	ctx := context.WithValue(testkit.Dry(testkit.Says("", "", 0)), ctxHandler{}, "trace 1")
	require.NoError(t, spawn.New(testkit.Missing).SetLogger(slog.New(ctxHandler{logger.Handler(), &seen})).Run(ctx))
	require.Equal(t, []any{"trace 1", "trace 1"}, seen)
}

// An observer that calls t.FailNow, for example.
func TestObserverThatEndsItsGoroutineDoesNoHarm(t *testing.T) {
	checkDryLeaks(t)
	defer spawn.SetObserver(&noted{onStart: func(spawn.StartEvent) { runtime.Goexit() }, onExit: func(spawn.ExitEvent) { runtime.Goexit() }})()
	for name, run := range testkit.Ways {
		n := &noted{}
		_ = run(testkit.Dry(testkit.Says("", "", 0)), spawn.New(testkit.Missing).SetObserver(n))
		requireRun(t, n, name)
	}
}

func TestObservingOffAllocatesNothing(t *testing.T) {
	ctx, c := context.Background(), spawn.New(testkit.Missing, "a").AddEnv("A", "b")
	info, _ := logTo(slog.LevelInfo)
	for name, set := range map[string]func() (restore func()){
		"never set":            func() func() { return func() {} },
		"debug level off":      func() func() { return spawn.SetLogger(info) },
		"its own, and off":     func() func() { c.SetLogger(info); return func() { c.SetLogger(nil) } },
		"set to nil":           func() func() { return spawn.SetObserver(nil) },
		"set, and put back":    func() func() { spawn.SetObserver(&noted{})(); return func() {} },
		"a policy set to nil":  func() func() { return spawn.SetPolicy(nil) },
		"a policy, taken away": func() func() { spawn.SetPolicy(forbidAll)(); return func() {} },
	} {
		restore := set()
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if !spawn.IsUnobserved(ctx, c) {
				t.Error("a copy")
			}
		}), name)
		restore()
	}
}

// BenchmarkObserverAndPolicyOff measures what a run pays where nobody observes
// and there is no policy; dry runs, which are off too, are in it.
func BenchmarkObserverAndPolicyOff(b *testing.B) {
	ctx, c := context.Background(), spawn.New(testkit.Missing)
	b.ReportAllocs()
	for range b.N {
		if !spawn.IsUnobserved(ctx, c) {
			b.Fatal("on")
		}
	}
}
