package spawn_test

import (
	"context"
	"math"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestStringIsALineForAShell(t *testing.T) {
	for want, c := range map[string]*spawn.Command{
		`/bin/echo a`:                        spawn.New("/bin/echo", "a"),
		`echo '' 'a b' 'a'\''b' '$HOME' '*'`: spawn.New("echo", "", "a b", "a'b", "$HOME", "*"),
		`x '~' '#' 'A=B' '"' '\' '!' '{}'`:   spawn.New("x", "~", "#", "A=B", `"`, `\`, "!", "{}"),
		`x $'a\nb' 'é' $'\377'`:              spawn.New("x", "a\nb", "é", "\xff"),
		`x --pair 'n=v' 'f 1'`:               spawn.New("x").AddArg("--pair").AddArgPair("n", "v").AddArgf("f %d", 1),
		// Not an assignment.
		`'A=B' x`:                  spawn.New("A=B", "x"),
		`A=1 B='a b' 'C D'=x prog`: spawn.New("prog").AddEnv("A", "1").AddEnv("B", "a b").AddEnv("C D", "x"),
		`prog`:                     spawn.New("prog").ClearEnv(),
		`A=1 'if' then`:            spawn.New("if", "then").AddEnv("A", "1"),
		`S=*** prog *** a`:         spawn.New("prog").AddSecretArg("hush").AddArg("a").AddSecretEnv("S", "hush"),
		`x -a_b@c:d,e/f.g%+1`:      spawn.New("x", "-a_b@c:d,e/f.g%+1"),
	} {
		require.Equal(t, want, c.String())
	}
}

func TestStringShowsTheNameAndNotArgument0(t *testing.T) {
	require.Equal(t, "/bin/busybox a", spawn.New("/bin/busybox", "a").SetArgv0("sh").String())
}

func TestTheGracePeriodIsFiveSecondsUnlessSaid(t *testing.T) {
	require.Equal(t, 5*time.Second, spawn.DefaultGracePeriod)
	require.Equal(t, 5*time.Second, testkit.Wanted(spawn.New("x")).Grace)
}

func TestALineThatWasTakenDoesNotChangeWithTheCommand(t *testing.T) {
	c := spawn.New("x", "a")
	l := testkit.Wanted(c).Line()
	c.AddArg("b")
	require.Equal(t, "x a", l.String())
}

func TestAShellRunsTheLineOfString(t *testing.T) {
	c := spawn.New("/usr/bin/env").AddEnv("A", "it's $A\n").AddEnv("B", "")
	out, err := shellOutput(t, "exec env -i "+c.String())
	require.NoError(t, err)
	require.Equal(t, "A=it's $A\n\nB=\n", out)
}

// shellOutput runs a script by a shell: the system's, or bash where the script
// has $'…', which not every other shell knows.
func shellOutput(t testing.TB, script string) (string, error) {
	path := "/bin/sh"
	if strings.Contains(script, "$'") {
		path = "bash"
	}
	cmd := exec.Command(path, "-c", script)
	if cmd.Err != nil || path == "/bin/sh" && !exists(path) {
		t.Skip("no shell: " + path)
	}
	out, err := cmd.Output()
	return string(out), err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestStringEscapesWhatATerminalWouldObey(t *testing.T) {
	for arg, want := range map[string]string{
		"a\nb":                 `$'a\nb'`,
		"\t\r":                 `$'\t\r'`,
		"\x1b]0;it's\a\\n":     `$'\033]0;it\047s\007\134n'`,
		"\u009b2J\x7f":         `$'\302\2332J\177'`,
		"\u202eevil\u2066":     `$'\342\200\256evil\342\201\246'`,
		"\u2028\u2029é":        `$'\342\200\250\342\200\251é'`,
		"7\xff7":               `$'7\3777'`,
		"\ufffd":               "'\ufffd'",
		"it's printable, é 日本": `'it'\''s printable, é 日本'`,
	} {
		require.Equal(t, "x "+want, spawn.New("x", arg).String())
		require.Equal(t, want+"="+want+" "+want, spawn.New(arg).AddEnv(arg, arg).String())
	}
}

// FuzzShellQuote checks that a real shell parses what String prints into the
// same words. The words of the input are separated by NUL bytes, which no word
// can have.
func FuzzShellQuote(f *testing.F) {
	for _, words := range [][]string{
		{"x"},
		{"x", "", "a", " ", "\t", "\n", "\r", "\n\n"},
		{"x", "'", "''", "'a'", `\'`, `"`, "`id`", "$(id)", "$HOME", "${A", "\\", "\\\n"},
		{"x", "*", "?", "[a-z]", "~", "~root", "{a,b}", "#a", "!", "!!", "a;b", "a&b", "a|b", "<a", ">a", "(", ")"},
		{"x", "A=B", "=", "-n", "--", "-e", "%s", "%d\\0"},
		{"x", "\xff", "\xc3", "é", "日本", "\x01", "\x7f", "\x81\x82\x88", "\u2028", "a\xffb'c"},
		{"if", "then", "A=B"},
		{"'", "'"},
		{"\x90\xff", "", "++", "\xed\xe5", "", "'"},
	} {
		f.Add(strings.Join(words, "\x00"))
	}
	f.Fuzz(func(t *testing.T, input string) {
		if len(input) > 16<<10 {
			t.Skip("too long")
		}
		words := strings.Split(input, "\x00")
		c := spawn.New("x")
		testkit.Wanted(c).Name = words[0]
		c.AddArg(words[1:]...)
		if i := len(words) / 2; words[i] != "" && !strings.Contains(words[i], "=") {
			c.AddEnv(words[i], words[len(words)-1])
			words = append([]string{words[i] + "=" + words[len(words)-1]}, words...)
		}
		require.NoError(t, testkit.FirstFail(c))
		out, err := shellOutput(t, "set -- "+c.String()+"\nprintf '%s\\0' \"$@\"")
		require.NoError(t, err)
		require.Equal(t, strings.Join(words, "\x00")+"\x00", out)
	})
}

func TestACloneIsIndependent(t *testing.T) {
	open := func() *os.File {
		f, err := os.Open(os.DevNull)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	f, g, h := open(), open(), open()
	c := spawn.New("x", "1", "2", "3").AddEnv("A", "1").AddEnv("B", "2").AddEnv("C", "3").
		SetRlimit(0, 1, 1).SetRlimit(1, 1, 1).SetRlimit(2, 1, 1).SetGroups(1, 2, 3).
		PassFDAs(f, 100).PassFDAs(f, 101).PassFDAs(f, 102)
	original := c.String()
	// With room behind the ends: what both append would meet there, did they
	// share it.
	testkit.Wanted(c).Args, testkit.Wanted(c).Env.Vars = slices.Grow(testkit.Wanted(c).Args, 9), slices.Grow(testkit.Wanted(c).Env.Vars, 9)
	testkit.Wanted(c).Passed, testkit.Wanted(c).Rlimits = slices.Grow(testkit.Wanted(c).Passed, 9), slices.Grow(testkit.Wanted(c).Rlimits, 9)
	d := c.Clone()
	c.AddArg("c").AddEnv("E", "c").SetRlimit(0, 2, 2).SetRlimit(3, 2, 2).PassFDAs(g, 103).PassFDAs(f, 100, spawn.CloseParent)
	require.Equal(t, original, d.String())
	d.AddArg("d").AddEnv("F", "d").AddEnv("A", "d").SetRlimit(0, 3, 3).SetRlimit(4, 3, 3).PassFDAs(h, 104)

	require.Equal(t, "A=1 B=2 C=3 E=c x 1 2 3 c", c.String())
	require.Equal(t, "A=d B=2 C=3 F=d x 1 2 3 d", d.String())
	require.Equal(t, []command.Rlimit{{Resource: 0, Soft: 2, Hard: 2}, {Resource: 1, Soft: 1, Hard: 1}, {Resource: 2, Soft: 1, Hard: 1}, {Resource: 3, Soft: 2, Hard: 2}}, testkit.Wanted(c).Rlimits)
	require.Equal(t, []command.Rlimit{{Resource: 0, Soft: 3, Hard: 3}, {Resource: 1, Soft: 1, Hard: 1}, {Resource: 2, Soft: 1, Hard: 1}, {Resource: 4, Soft: 3, Hard: 3}}, testkit.Wanted(d).Rlimits)
	require.Equal(t, []command.PassedFD{{FD: 100, File: f, Close: true}, {FD: 101, File: f}, {FD: 102, File: f}, {FD: 103, File: g}}, testkit.Wanted(c).Passed)
	require.Equal(t, []command.PassedFD{{FD: 100, File: f}, {FD: 101, File: f}, {FD: 102, File: f}, {FD: 104, File: h}}, testkit.Wanted(d).Passed)

	testkit.Wanted(c).IDs.Groups[0] = 7
	require.Equal(t, []uint32{1, 2, 3}, testkit.Wanted(d).IDs.Groups)
	require.NoError(t, testkit.FirstFail(c))
	require.NoError(t, testkit.FirstFail(d))
}

func TestACloneHasEveryAttribute(t *testing.T) {
	var out string
	c := spawn.New("x", "a").SetArgv0("y").AddEnv("A", "1").SetInput([]byte("in")).SetOutputBuffer(&out).MergeStderr().
		SetWorkingDirectory("/d").SetUmask(0o27).SetMaxFiles(9).SetUID(1).SetGID(2).SetGroups(3).SetSession().SetProcessGroup().
		SetKillMode(spawn.KillGroup).SetGracePeriod(time.Minute)
	require.Equal(t, c, c.Clone())
}

func TestACloneOfABadCommandIsBad(t *testing.T) {
	require.EqualError(t, spawn.New("").Clone().Run(context.Background()), "spawn: New: the program's name is empty")
}

func TestTheCallersSliceOfArgumentsIsCopied(t *testing.T) {
	args := make([]string, 2, 10)
	args[0], args[1] = "a", "b"
	c := spawn.New("x", args...)
	d := spawn.New("x").AddArg(args...)
	args[0] = "changed"
	c.AddArg("c")
	require.Equal(t, "x a b c", c.String())
	require.Equal(t, "x a b", d.String())
	require.Empty(t, args[:3][2])
}

// badCommands returns commands with one bad call each, by the error that is
// expected. Were they started, the program would leave the marker behind.
func badCommands(t *testing.T, marker string) map[string]*spawn.Command {
	c := func() *spawn.Command { return spawn.New("/bin/sh", "-c", "echo started >"+marker+"; exit 1") }
	open, err := os.Open(os.DevNull)
	require.NoError(t, err)
	t.Cleanup(func() { open.Close() })
	closed, err := os.Open(os.DevNull)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	var none *os.File

	pass := func(f *os.File, flags ...spawn.PassFDFlag) *spawn.Command {
		c := c()
		require.Equal(t, -1, c.PassFD(f, flags...))
		return c
	}
	flagged := c()
	flagged.PassFD(open, 6)
	bad := map[string]*spawn.Command{
		`New: the program's name is empty`:                         spawn.New(""),
		`New: the program name "/bin/sh\x00" has a NUL byte`:       spawn.New("/bin/sh\x00"),
		`New: the argument "a\x00b" has a NUL byte`:                spawn.New("/bin/sh", "-c", "exit 1", "a\x00b"),
		`AddArg: the argument "\x00" has a NUL byte`:               c().AddArg("a", "\x00"),
		`AddArgf: the argument "<\x00>" has a NUL byte`:            c().AddArgf("<%c>", 0),
		`AddArgPair: the argument "n\x00=v" has a NUL byte`:        c().AddArgPair("n\x00", "v"),
		`AddSecretArg: the argument has a NUL byte`:                c().AddSecretArg("hush\x00"),
		`SetArgv0: argument 0 is empty`:                            c().SetArgv0(""),
		`SetArgv0: the argument "\x00" has a NUL byte`:             c().SetArgv0("\x00"),
		`SetWorkingDirectory: the directory is empty`:              c().SetWorkingDirectory(""),
		`SetWorkingDirectory: the directory "\x00" has a NUL byte`: c().SetWorkingDirectory("\x00"),
		`SetUmask: the mask -01 is not in 0 to 0777`:               c().SetUmask(-1),
		`SetUmask: the mask 01000 is not in 0 to 0777`:             c().SetUmask(0o1000),
		`SetKillMode: 77 is not a kill mode`:                       c().SetKillMode(77),
		`SetKillMode: -1 is not a kill mode`:                       c().SetKillMode(-1),
		`SetGracePeriod: the period -1ns is negative`:              c().SetGracePeriod(-1),
		`AddEnv: the variable's name is empty`:                     c().AddEnv("", ""),
		`SetStdin: the file is nil`:                                c().SetStdin(none),
		`SetStdout: the file is nil`:                               c().SetStdout(none),
		`SetStderr: the file is nil`:                               c().SetStderr(none),
		`SetOutputBuffer: the string pointer is nil`:               c().SetOutputBuffer(nil),
		`SetErrorBuffer: the string pointer is nil`:                c().SetErrorBuffer(nil),
		`PassFD: the file is nil`:                                  pass(nil),
		`PassFD: the file ` + os.DevNull + ` is closed`:            pass(closed),
		`PassFD: 0x6 is not a flag`:                                flagged,
		`PassFDAs: the file is nil`:                                c().PassFDAs(nil, 5),
		`PassFDAs: the file ` + os.DevNull + ` is closed`:          c().PassFDAs(closed, 5),
		`PassFDAs: 0x2 is not a flag`:                              c().PassFDAs(open, 5, 2),
		`PassFDAs: the number 2 is not one to pass ` + os.DevNull + ` as; 0 to 2 are the standard streams`:  c().PassFDAs(open, 2),
		`PassFDAs: the number -1 is not one to pass ` + os.DevNull + ` as; 0 to 2 are the standard streams`: c().PassFDAs(open, -1),
		`PassFDAs: two descriptors for the number 5: ` + os.DevNull + ` and ` + os.Stderr.Name():            c().PassFDAs(open, 5).PassFDAs(os.Stderr, 5),
		`SetUID: the uid -1 is not in 0 to 4294967294`:                                                      c().SetUID(-1),
		`SetGID: the gid -5 is not in 0 to 4294967294`:                                                      c().SetGID(-5),
		`SetUser: user: unknown user no-such-user`:                                                          c().SetUser("no-such-user"),
		`SetRlimit: -1 is not a resource`:                                                                   c().SetRlimit(-1, 0, 0),
		`SetRlimit: 16 is not a resource`:                                                                   c().SetRlimit(16, 0, 0),
		`SetRlimit: the soft limit 2 is above the hard limit 1`:                                             c().SetRlimit(7, 2, 1),
	}
	if past := int64(math.MaxUint32); past <= math.MaxInt {
		// On a 32-bit processor no int is too large.
		bad[`SetUID: the uid 4294967295 is not in 0 to 4294967294`] = c().SetUID(int(past))
		bad[`SetGroups: the gid 4294967296 is not in 0 to 4294967294`] = c().SetGroups(0, int(past+1))
	}
	return bad
}

func TestABadCallIsReportedByEveryCallThatRunsTheCommand(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "marker")
	ctx := context.Background()
	for want, c := range badCommands(t, marker) {
		running := map[string]func() error{
			"Run":            func() error { return c.Run(ctx) },
			"RunStatus":      func() error { _, err := c.RunStatus(ctx); return err },
			"Start":          func() error { _, err := c.Start(ctx); return err },
			"Output":         func() error { _, err := c.Output(ctx); return err },
			"CombinedOutput": func() error { _, err := c.CombinedOutput(ctx); return err },
			"Lines":          func() error { return lastError(c) },
			"Records":        func() error { return testkit.FirstError(c.Records(ctx, 0)) },
			"RunRegex":       func() error { return matchAll(c) },
			"Exec":           func() error { return c.Exec() },
			"Explain":        func() error { _, err := c.Explain(); return err },
			"Run of a clone": func() error { return c.Clone().Run(ctx) },
		}
		for name, run := range running {
			err := run()
			require.EqualError(t, err, "spawn: "+want, name)
			require.NotContains(t, err.Error(), "hush")
		}
		_ = c.String() // of a bad command too
	}
	require.NoFileExists(t, marker)
}

// matchAll has every line of a command matched.
func matchAll(c *spawn.Command) error {
	return c.RunRegex(context.Background(), testkit.AnyLine, func([]string) error { return nil })
}

// lastError ranges over the lines of a command.
func lastError(c *spawn.Command) (err error) {
	for _, err = range c.Lines(context.Background()) {
	}
	return err
}

func TestTheFirstBadCallIsReported(t *testing.T) {
	c := spawn.New("x").SetUmask(-1).AddArg("\x00").AddEnv("", "")
	require.ErrorContains(t, c.Run(context.Background()), "SetUmask")
	c = spawn.New("").SetUmask(-1)
	require.ErrorContains(t, c.Run(context.Background()), "New: ")
}

func TestAnUnknownUserIsTheUserDatabasesError(t *testing.T) {
	err := spawn.New("x").SetUser("no-such-user").Run(context.Background())
	require.ErrorAs(t, err, new(user.UnknownUserError))
}

func TestRunStatusOfABadCommandIsNotSuccess(t *testing.T) {
	status, err := spawn.New("").RunStatus(context.Background())
	require.Error(t, err)
	require.False(t, status.Success())
}

func TestLastLineIsFitToBeShown(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"\n \t\r\n":               "",
		"one":                     "one",
		"one\n":                   "one",
		"one\ntwo":                "two",
		"one\n  two \r\n\n \t \n": "two",
		"\n\none\n\n":             "one",
		"a\x00b\n":                `a\x00b`,
		"\x1b[31mred\a\xff\ttab":  `\x1b[31mred\a\xff\ttab`,
		`"C:\"` + " é \ufffd\n":   `"C:\"` + " é \ufffd",
		strings.Repeat("x", 512):  strings.Repeat("x", 512),
		strings.Repeat("x", 513):  strings.Repeat("x", 512) + "...",
	} {
		require.Equal(t, want, spawn.LastLine([]byte(text)), "%q", text)
	}
}

// TestTheEnvironmentIsShownByStringOnly: what was passed on may hold what is
// nobody else's business, without being marked as a secret.
func TestTheEnvironmentIsShownByStringOnly(t *testing.T) {
	c := spawn.New("prog", "a b").AddEnv("NAME", "value").AddSecretEnv("TOKEN", "hidden").AddSecretArg("hidden")
	require.Equal(t, "NAME=value TOKEN=*** prog 'a b' ***", c.String())
	err := c.Run(spawn.WithDryRun(t.Context(), func(call *spawn.DryRunCall) {
		require.Equal(t, c.String(), call.String())
		call.ExitCode = 1
	}))
	require.EqualError(t, err, "spawn: prog 'a b' ***: exit status 1")
}
