package spawntest

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
)

// Records the programs of a test, and replays them: what the test sees is
// the same.
func TestRecordRunsAProgramOnceAndReplaysIt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "testdata", "x.golden")
	marker := filepath.Join(dir, "marker")
	test := func(tb testing.TB) {
		ctx := Record(tb, path, Hide("pin 1234"), Replace(dir, "$DIR"))
		out, err := spawn.New("/bin/sh", "-c", `echo x >>"$1"; cat; echo "$1 $S $2"; echo err >&2; exit 3`, "sh", marker).AddSecretArg("hush").
			AddEnvPassCommon().AddSecretEnv("S", "quiet").SetInput([]byte("in pin 1234\n")).SetWorkingDirectory(dir).Output(ctx)
		require.ErrorContains(t, err, "exit status 3: err")
		require.Equal(t, "in ***\n"+marker+" *** ***\n", string(out), "the secrets are hidden both times")

		p, err := spawn.New("/bin/sh", "-c", "trap 'exit 4' TERM; echo ready; while :; do sleep 0.01; done").SetGracePeriod(1e12).Start(ctx)
		require.NoError(t, err)
		require.NoError(t, p.Abort())

		p, err = spawn.New("/bin/cat").PipeStdin().PipeStdout().Start(ctx)
		require.NoError(t, err)
		_, err = p.Stdin().Write([]byte("through"))
		require.NoError(t, err)
		require.NoError(t, p.Stdin().Close())
		b := make([]byte, 8)
		n, _ := p.Stdout().Read(b)
		require.Equal(t, "through", string(b[:n]))
		require.NoError(t, p.Wait())
		require.NoError(t, p.Stdout().Close())

		err = spawn.New("/no/such/program").Run(ctx)
		require.ErrorIs(t, err, syscall.ENOENT)
		require.EqualError(t, err, `spawn: cannot start "/no/such/program": execve("/no/such/program"): no such file or directory`)
	}
	require.Empty(t, fake(test))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, secret := range []string{"hush", "quiet", "1234", dir, os.Getenv("PATH")} {
		require.NotContains(t, string(text), secret)
	}
	// How the second one ends depends on whether it has come to its trap.
	got := strings.NewReplacer("exit 4\n", "signal SIGTERM\n", "stdout\n| ready\nruns", "runs").Replace(string(text))
	require.Equal(t, goldenHeader+`

run "/bin/sh" "-c" "echo x >>\"$1\"; cat; echo \"$1 $S $2\"; echo err >&2; exit 3" "sh" "$DIR/marker" ***
dir "$DIR"
env "S" ***
stdin
| in ***
stdout
| in ***
| $DIR/marker *** ***
stderr
| err
exit 3

run "/bin/sh" "-c" "trap 'exit 4' TERM; echo ready; while :; do sleep 0.01; done"
runs
signal SIGTERM

run "/bin/cat"
stdin
"through"
stdout
"through"
exit 0

run "/no/such/program"
failed "execve(\"/no/such/program\")" "no such file or directory" ENOENT fs.ErrNotExist
`, got)
	require.Empty(t, fake(test), "replayed")
	require.Empty(t, fake(test), "again")
	ran := func() string {
		b, err := os.ReadFile(marker)
		require.NoError(t, err)
		return string(b)
	}
	require.Equal(t, "x\n", ran(), "it has run once")

	require.NoError(t, flag.Set(updateFlag, "true"))
	defer func() { require.NoError(t, flag.Set(updateFlag, "false")) }()
	require.Empty(t, fake(test))
	require.Equal(t, "x\nx\n", ran(), "it has run again")
}

func TestRecordNamesAFileAfterItsTest(t *testing.T) {
	t.Chdir(t.TempDir())
	require.Empty(t, fake(func(tb testing.TB) { require.NoError(t, spawn.New("/bin/true").Run(Record(tb, ""))) }))
	entries, err := filepath.Glob("testdata/*")
	require.NoError(t, err)
	require.Equal(t, []string{"testdata/TestFake_it_is.golden"}, entries)
}

func TestRecordTakesAChangeWithUpdateOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.golden")
	run := func(arg string) string {
		return fake(func(tb testing.TB) { _ = spawn.New("/bin/echo", arg).Run(Record(tb, path)) })
	}
	require.Empty(t, run("a"))
	require.Contains(t, run("b"), "argument 1:\n    expected a\n    got      b")
	require.NoError(t, flag.Set(updateFlag, "true"))
	require.Empty(t, run("b"))
	require.NoError(t, flag.Set(updateFlag, "false"))
	require.Empty(t, run("b"))
	require.NotEmpty(t, run("a"))
}

func TestAFailedTestRecordsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.golden")
	test := func(after func(testing.TB)) string {
		return fake(func(tb testing.TB) {
			require.NoError(t, spawn.New("/bin/true").Run(Record(tb, path)))
			after(tb)
		})
	}
	require.Equal(t, "no", test(func(tb testing.TB) { tb.Errorf("no") }))
	require.Equal(t, "no", test(func(tb testing.TB) { tb.Fatalf("no") }))
	require.NoFileExists(t, path)
	require.Empty(t, test(func(testing.TB) {}))
	require.FileExists(t, path)
}

func TestAVariableRecordsAgainToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.golden")
	run := func(arg string) string {
		return fake(func(tb testing.TB) { _ = spawn.New("/bin/echo", arg).Run(Record(tb, path)) })
	}
	require.Empty(t, run("a"))
	t.Setenv(updateVariable, "1")
	require.Empty(t, run("b"))
	t.Setenv(updateVariable, "")
	require.Empty(t, run("b"))
	require.NotEmpty(t, run("a"))
}

// What one call says to be a secret may be in another as well, which
// cannot know.
func TestASecretOfALaterCallIsRecordedWithHideOnly(t *testing.T) {
	const secret = `hu"sh`
	login, pass := spawn.New("/bin/echo", "login", secret), spawn.New("/bin/echo").AddSecretArg(secret)
	writes := spawn.New("/bin/sh", "-c", `printf 'hu%csh' '"'`).SetOutputBuffer(new(string))
	record := func(path string, calls []*spawn.Command, options ...Option) string {
		return fake(func(tb testing.TB) {
			ctx := Record(tb, path, options...)
			for _, c := range calls {
				require.NoError(t, c.Run(ctx))
			}
		})
	}
	for name, test := range map[string]struct {
		calls   []*spawn.Command
		options []Option
		refused string
	}{
		"later":            {[]*spawn.Command{login, pass}, nil, "call 1"},
		"later, the same":  {[]*spawn.Command{spawn.New("/bin/echo", secret), pass}, nil, "call 1"},
		"later, in output": {[]*spawn.Command{writes, pass}, nil, "call 1"},
		"before":           {[]*spawn.Command{pass, login, writes}, nil, ""},
		"in any order":     {[]*spawn.Command{pass, login}, []Option{AnyOrder()}, "call 2"},
	} {
		path := filepath.Join(t.TempDir(), "x.golden")
		if test.refused != "" {
			require.Equal(t, "spawntest: "+path+": not recorded: "+test.refused+
				" has in it what another call, not before it, says to be a secret: give that to Hide too", record(path, test.calls, test.options...), name)
			require.NoFileExists(t, path)
			test.options = append(test.options, Hide(secret))
		}
		require.Empty(t, record(path, test.calls, test.options...), name)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotRegexp(t, `hu\\?"sh`, string(text), name)
		require.Empty(t, record(path, test.calls, test.options...), "%s, replayed", name)
	}
}

func TestARecordingHasSecretsInNoFormThatIsUsual(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.golden")
	const quoted = `he said "d'oh" & <left>?` + "\n" + `second\line, é`
	commands := func() []*spawn.Command {
		c := spawn.New("/bin/sh", "-c", `echo "login with hunter2 failed"; echo "$2" >&2`, "sh").AddSecretArg("--password=hunter2")
		c.SetSendBuffer([]byte("first of two\nTOKEN='0123 4567'\n"))
		c.AddArg("line first of two, token 0123 4567, not 12")
		d := spawn.New("/bin/echo", fmt.Sprintf("%q", quoted), fmt.Sprintf("%+q", quoted), `{"a":`+string(must(json.Marshal(quoted)))+"}",
			"https://x/"+url.PathEscape(quoted)+"?q="+url.QueryEscape(quoted), base64.StdEncoding.EncodeToString([]byte(quoted)),
			spawn.New("x", quoted).String(), `'he said "d'\''oh" & <left>?'`, "--pin=1").AddSecretEnv("S", quoted).AddSecretArg("--pin=1")
		return []*spawn.Command{c, d}
	}
	test := func(tb testing.TB) {
		ctx := Record(tb, path)
		for _, c := range commands() {
			require.NoError(t, c.Run(ctx))
		}
	}
	require.Empty(t, fake(test))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, part := range []string{"hunter", "first of", "0123", "he said", "he+said", "he%20said", "oh", "left", "second", base64.StdEncoding.EncodeToString([]byte("he said"))[:6]} {
		require.NotContains(t, string(text), part)
	}
	for _, part := range []string{"login with *** failed", "line ***, token ***, not 12", "https://x/***?q=***", `{\"a\":\"***\"}`} {
		require.Contains(t, string(text), part)
	}
	require.Empty(t, fake(test), "replayed")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
