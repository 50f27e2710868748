package spawntest

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
)

// fullCall is a call with everything.
func fullCall() *recorded {
	return &recorded{
		argv: []word{{text: "/bin/x y"}, {}, {text: "a\n\xff"}, {secret: true}, {text: "***"}}, argv0: "zero", dir: "/tmp/d",
		env: [][2]word{{{text: "A"}, {text: "1 2"}}, {{text: "S"}, {secret: true}}}, buffers: 2,
		stdin: "one\n\n\ttab\ntrailing \ncr\r\n| bar\n\"quoted\"\nexit 0\nhalf", stdout: "é\n\x00\n\n", stderr: "\xff", exit: 255, runs: true,
	}
}

func TestAGoldenFileRoundTrips(t *testing.T) {
	for _, calls := range [][]*recorded{
		nil,
		{fullCall()},
		{{argv: []word{{text: "a"}}}, {argv: []word{{text: "b"}}, signal: syscall.SIGKILL}, {argv: []word{{text: "c"}}, signal: 40}},
		{{argv: []word{{text: "a"}}, failed: &recordedError{"execve(\"x\")", "no", []string{"ENOENT", "fs.ErrNotExist"}}}},
		{{argv: []word{{text: "a"}}, failed: &recordedError{op: "start", text: ""}}},
	} {
		got, err := parseGolden(formatGolden(calls))
		require.NoError(t, err, "%s", formatGolden(calls))
		for i, r := range got {
			if r.failed != nil && len(r.failed.is) == 0 {
				r.failed.is = nil
			}
			require.Equal(t, calls[i], r)
		}
		require.Len(t, got, len(calls))
		crlf := strings.ReplaceAll(string(formatGolden(calls)), "\n", "\r\n")
		_, err = parseGolden([]byte(crlf))
		require.NoError(t, err, "as version control on Windows may write it")
	}
}

func TestAnyTextRoundTrips(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const letters = "ab \n\n\r\t|\"\\\x00\xff\u00e9\u2028*"
	for range 3000 {
		var b strings.Builder
		for range random.IntN(12) {
			b.WriteByte(letters[random.IntN(len(letters))])
		}
		calls := []*recorded{{argv: []word{{text: b.String()}}, stdin: b.String(), stdout: b.String() + "\n"}}
		got, err := parseGolden(formatGolden(calls))
		require.NoError(t, err, "%q", b.String())
		require.Equal(t, calls, got)
	}
}

func TestAGoldenFileIsParsedStrictly(t *testing.T) {
	good := string(formatGolden([]*recorded{fullCall()}))
	_, err := parseGolden([]byte(good))
	require.NoError(t, err)
	for _, edit := range [][2]string{
		{"format 1", "format 2"},
		{"\nrun ", "run "},
		{"run \"/bin/x y\"", "run  \"/bin/x y\""},
		{"run \"/bin/x y\"", "run ***"},
		{"\"***\"", "****"},
		{"argv0 \"zero\"", "argv0 zero"},
		{"argv0 \"zero\"", "argv0 \"zero\" \"more\""},
		{"argv0 \"zero\"\ndir \"/tmp/d\"", "dir \"/tmp/d\"\nargv0 \"zero\""},
		{"dir \"/tmp/d\"", "dir \"/tmp/d\" "},
		{"dir \"/tmp/d\"", "dir ***"},
		{"dir \"/tmp/d\"", "dir \"\""},
		{"dir \"/tmp/d\"", "dir \"/tmp/d\"\ndir \"/tmp/d\""},
		{"env \"A\" \"1 2\"", "env \"A\""},
		{"env \"A\" \"1 2\"", "env *** \"1 2\""},
		{"send-buffer ***", "send-buffer \"x\""},
		{"| one", "|one"},
		{"| one", "one"},
		{"| one", "\"one\\n\""},
		{"| \n", "|\n"},
		{"stdin", "standard input"},
		{"exit 255", "exit 256"},
		{"exit 255", "exit 0255"},
		{"exit 255", "signal NONE"},
		{"exit 255", "signal 9"},
		{"exit 255", "failed \"a\""},
		{"exit 255", "failed \"a\" \"b\" ENONE"},
		{"exit 255\n", ""},
		{"exit 255\n", "exit 255"},
		{"exit 255\n", "exit 255\n\n"},
		{"exit 255\n", "exit 255\nexit 255\n"},
		{"runs", "runs on"},
	} {
		require.Contains(t, good, edit[0])
		_, err := parseGolden([]byte(strings.Replace(good, edit[0], edit[1], 1)))
		require.Error(t, err, "%q", edit)
		require.Regexp(t, `^line \d+: `, err.Error())
	}
	for i := range good { // no beginning of a file is one, but the first line
		if _, err := parseGolden([]byte(good[:i])); err == nil {
			require.Equal(t, goldenHeader+"\n", good[:i])
		}
	}
}

// writeGolden writes a golden file of these calls, and returns its path.
func writeGolden(t *testing.T, calls ...*recorded) string {
	path := filepath.Join(t.TempDir(), "x.golden")
	require.NoError(t, os.WriteFile(path, formatGolden(calls), 0o600))
	return path
}

// recordedCommand is a command, and the call that it makes.
func recordedCommand() (*spawn.Command, *recorded) {
	c := spawn.New("x", "a").AddSecretArg("hush").AddEnv("A", "1").AddSecretEnv("S", "quiet").AddEnvPassCommon().
		SetWorkingDirectory("/d").SetInput([]byte("one\ntwo hush\n"))
	c.SetSendBuffer([]byte("key\n"))
	return c, &recorded{
		argv: []word{{text: "x"}, {text: "a"}, {secret: true}}, dir: "/d", buffers: 1, stdin: "one\ntwo ***\n", stdout: "out", stderr: "err\n", exit: 4,
		env: [][2]word{{{text: "A"}, {text: "1"}}, {{text: "S"}, {secret: true}}},
	}
}

func TestARecordedCallIsReplayed(t *testing.T) {
	c, r := recordedCommand()
	path := writeGolden(t, r)
	require.Empty(t, fake(func(tb testing.TB) {
		out, err := c.Output(Record(tb, path))
		require.ErrorContains(t, err, "exit status 4: err")
		require.Equal(t, "out", string(out))
	}))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(formatGolden([]*recorded{r})), string(text), "it is not changed")
}

func TestATestAgainstAGoldenFileFailsWhenTheCommandChanges(t *testing.T) {
	for want, change := range map[string]func(*spawn.Command){
		"argument 3: expected none, got more":                       func(c *spawn.Command) { c.AddArg("more") },
		"argument 0:\n    expected \"\"\n    got      zero":         func(c *spawn.Command) { c.SetArgv0("zero") },
		"variable \"B\\nforged\\x1b\": it is new":                   func(c *spawn.Command) { c.AddEnv("B\nforged\x1b", "") },
		"variable B: it is new":                                     func(c *spawn.Command) { c.AddEnv("B", "") },
		"variable A:\n    expected 1\n    got      2":               func(c *spawn.Command) { c.AddEnv("A", "2") },
		"variable S: it is no secret any more":                      func(c *spawn.Command) { c.AddEnv("S", "quiet") },
		"variable A: it is a secret now":                            func(c *spawn.Command) { c.AddSecretEnv("A", "1") },
		"variable A: there is none any more":                        func(c *spawn.Command) { c.ClearEnv() },
		"working directory:\n    expected /d\n    got      /e":      func(c *spawn.Command) { c.SetWorkingDirectory("/e") },
		"send buffers: expected 1, got 2":                           func(c *spawn.Command) { c.SetSendBuffer(nil) },
		"standard input, line 2:\n    expected \"two ***\\n\"":      func(c *spawn.Command) { c.SetInput([]byte("one\n")) },
		"standard input, line 1:\n    expected \"one\\n\"\n    got": func(c *spawn.Command) { c.SetStdin(nil) },
	} {
		c, r := recordedCommand()
		path := writeGolden(t, r)
		change(c)
		report := fake(func(tb testing.TB) { _ = c.Run(Record(tb, path)) })
		require.Contains(t, report, "call 1 differs")
		require.Contains(t, report, want)
		require.Contains(t, report, "go test -run '^TestFake/it is$' -update")
		for _, secret := range []string{"hush", "quiet", "key"} {
			if want != "variable S: it is no secret any more" {
				require.NotContains(t, report, secret)
			}
		}
	}
	c, r := recordedCommand()
	path := writeGolden(t, r)
	require.Contains(t, fake(func(tb testing.TB) { Record(tb, path) }), "a call is missing")
	require.Contains(t, fake(func(tb testing.TB) {
		ctx := Record(tb, path)
		_ = c.Run(ctx)
		_ = c.Run(ctx)
	}), "call 2 is not expected")
	require.Contains(t, fake(func(tb testing.TB) {
		_ = spawn.New("x", "a", "hush").Run(Record(tb, path))
	}), "argument 2: it is no secret any more")
	require.Contains(t, fake(func(tb testing.TB) {
		_ = spawn.New("y").Run(Record(tb, path))
	}), "call 1 is not expected\n  expected: x a <a secret>\n  called:   y")
}

func TestARecordedErrorIsWhatItWas(t *testing.T) {
	path := writeGolden(t, &recorded{argv: []word{{text: "x"}}, failed: newRecordedError(
		&spawn.StartError{Op: "search in PATH", Path: "x", Err: syscall.ENOENT})})
	require.Empty(t, fake(func(tb testing.TB) {
		_, err := spawn.New("x").PipeStdin().Start(Record(tb, path))
		require.EqualError(t, err, `spawn: cannot start "x": search in PATH: no such file or directory`)
		require.ErrorIs(t, err, syscall.ENOENT)
		require.ErrorIs(t, err, os.ErrNotExist)
		require.NotErrorIs(t, err, syscall.EACCES)
	}))
}

func TestARecordedProgramThatRunsWaitsForASignal(t *testing.T) {
	path := writeGolden(t, &recorded{argv: []word{{text: "x"}}, stdout: "ready\n", exit: 3, runs: true})
	require.Empty(t, fake(func(tb testing.TB) {
		p, err := spawn.New("x").Start(Record(tb, path))
		require.NoError(t, err)
		require.NoError(t, p.Signal(syscall.SIGTERM))
		require.ErrorContains(t, p.Wait(), "exit status 3")
	}))
}

func TestABadGoldenFileFailsTheTestAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.golden")
	require.NoError(t, os.WriteFile(path, []byte("nonsense\n"), 0o600))
	report := fake(func(tb testing.TB) {
		Record(tb, path)
		t.Error("it goes on")
	})
	require.Equal(t, "spawntest: "+path+": line 1: the first line is not that of a golden file of this version", report)
}

func TestAReportShowsNoSecretOfALaterCall(t *testing.T) {
	const secret = `hu"sh`
	later := func(ctx context.Context) { _ = spawn.New("y").AddSecretArg(secret).Run(ctx) }
	report := fake(func(tb testing.TB) {
		ctx, script := New(tb)
		script.Expect("x", "other", "-p")
		script.Expect("x", "one", secret)
		script.Expect("z").Env("V", "w").Stdin("a\nb\n")
		script.Expect("y", Rest)
		_ = spawn.New("x", secret, "-p").Run(ctx)
		_ = spawn.New("x", "one").Run(ctx)
		_ = spawn.New("z").AddEnv("V", secret).SetInput([]byte("a\n" + secret + "\n")).Run(ctx)
		later(ctx)
	})
	require.Equal(t, `spawntest: call 1 differs from what is expected
  expected: x other -p  (HERE)
  called:   x *** -p
  argument 1:
    expected other
    got      ***
spawntest: call 2 differs from what is expected
  expected: x one ***  (HERE)
  called:   x one
  argument 2: expected ***, there is none
spawntest: call 3 differs from what is expected
  expected: z  (HERE)
  called:   z
  variable V:
    expected w
    got      ***
  standard input, line 2:
    expected "b\n"
    got      "***\n"`, report)

	path := writeGolden(t, &recorded{argv: []word{{text: "x"}, {text: "p=***"}}}, &recorded{argv: []word{{text: "y"}, {secret: true}}})
	report = fake(func(tb testing.TB) {
		ctx := Record(tb, path)
		_ = spawn.New("x", "p="+secret).Run(ctx)
		later(ctx)
	})
	require.Contains(t, report, "\n  called:   x p=***\n  argument 1: a secret is in it, which was not known yet to be one: give it to Hide\n")
	require.NotContains(t, report, "sh\"")
}
