package spawn

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
)

func TestStringIsALineForAShell(t *testing.T) {
	for want, c := range map[string]*Command{
		`/bin/echo a`:                        New("/bin/echo", "a"),
		`echo '' 'a b' 'a'\''b' '$HOME' '*'`: New("echo", "", "a b", "a'b", "$HOME", "*"),
		`x '~' '#' 'A=B' '"' '\' '!' '{}'`:   New("x", "~", "#", "A=B", `"`, `\`, "!", "{}"),
		"x 'a\nb' 'é' '\xff'":                New("x", "a\nb", "é", "\xff"),
		`x --pair 'n=v' 'f 1'`:               New("x").AddArg("--pair").AddArgPair("n", "v").AddArgf("f %d", 1),
		`'A=B' x`:                            New("A=B", "x"), // not an assignment
		`A=1 B='a b' 'C D'=x prog`:           New("prog").AddEnv("A", "1").AddEnv("B", "a b").AddEnv("C D", "x"),
		`prog`:                               New("prog").ClearEnv(),
		`A=1 'if' then`:                      New("if", "then").AddEnv("A", "1"),
		`S=*** prog *** a`:                   New("prog").AddSecretArg("hush").AddArg("a").AddSecretEnv("S", "hush"),
		`x -a_b@c:d,e/f.g%+1`:                New("x", "-a_b@c:d,e/f.g%+1"),
	} {
		require.Equal(t, want, c.String())
	}
}

func TestStringShowsTheNameAndNotArgument0(t *testing.T) {
	require.Equal(t, "/bin/busybox a", New("/bin/busybox", "a").SetArgv0("sh").String())
}

func TestTheGracePeriodIsFiveSecondsUnlessSaid(t *testing.T) {
	require.Equal(t, 5*time.Second, DefaultGracePeriod)
	require.Equal(t, 5*time.Second, wantedOf(New("x")).grace)
}

func TestALineThatWasTakenDoesNotChangeWithTheCommand(t *testing.T) {
	c := New("x", "a")
	l := wantedOf(c).line()
	c.AddArg("b")
	require.Equal(t, "x a", l.String())
}

func TestAShellRunsTheLineOfString(t *testing.T) {
	c := New("/usr/bin/env").AddEnv("A", "it's $A\n").AddEnv("B", "")
	out, err := shellOutput(t, "exec env -i "+c.String())
	require.NoError(t, err)
	require.Equal(t, "A=it's $A\n\nB=\n", out)
}

// shellOutput runs a script by the system's shell.
func shellOutput(t testing.TB, script string) (string, error) {
	const path = "/bin/sh"
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no shell: %v", err)
	}
	out, err := exec.Command(path, "-c", script).Output()
	return string(out), err
}

// FuzzShellQuote checks that a real shell parses what String prints into the same words. The words of the input are separated by
// NUL bytes, which no word can have.
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
		c := New("x")
		wantedOf(c).name = words[0]
		c.AddArg(words[1:]...)
		if i := len(words) / 2; words[i] != "" && !strings.Contains(words[i], "=") {
			c.AddEnv(words[i], words[len(words)-1])
			words = append([]string{words[i] + "=" + words[len(words)-1]}, words...)
		}
		require.NoError(t, firstFailOf(c))
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
	c := New("x", "1", "2", "3").AddEnv("A", "1").AddEnv("B", "2").AddEnv("C", "3").
		SetRlimit(0, 1, 1).SetRlimit(1, 1, 1).SetRlimit(2, 1, 1).SetGroups(1, 2, 3).
		PassFDAs(f, 100).PassFDAs(f, 101).PassFDAs(f, 102)
	original := c.String()
	// With room behind the ends: what both append would meet there, did they share it.
	wantedOf(c).args, wantedOf(c).env.vars = slices.Grow(wantedOf(c).args, 9), slices.Grow(wantedOf(c).env.vars, 9)
	wantedOf(c).passed, wantedOf(c).rlimits = slices.Grow(wantedOf(c).passed, 9), slices.Grow(wantedOf(c).rlimits, 9)
	d := c.Clone()
	c.AddArg("c").AddEnv("E", "c").SetRlimit(0, 2, 2).SetRlimit(3, 2, 2).PassFDAs(g, 103).PassFDAs(f, 100, CloseParent)
	require.Equal(t, original, d.String())
	d.AddArg("d").AddEnv("F", "d").AddEnv("A", "d").SetRlimit(0, 3, 3).SetRlimit(4, 3, 3).PassFDAs(h, 104)

	require.Equal(t, "A=1 B=2 C=3 E=c x 1 2 3 c", c.String())
	require.Equal(t, "A=d B=2 C=3 F=d x 1 2 3 d", d.String())
	require.Equal(t, []rlimit{{0, 2, 2}, {1, 1, 1}, {2, 1, 1}, {3, 2, 2}}, wantedOf(c).rlimits)
	require.Equal(t, []rlimit{{0, 3, 3}, {1, 1, 1}, {2, 1, 1}, {4, 3, 3}}, wantedOf(d).rlimits)
	require.Equal(t, []passedFD{{fd: 100, file: f, close: true}, {fd: 101, file: f}, {fd: 102, file: f}, {fd: 103, file: g}}, wantedOf(c).passed)
	require.Equal(t, []passedFD{{fd: 100, file: f}, {fd: 101, file: f}, {fd: 102, file: f}, {fd: 104, file: h}}, wantedOf(d).passed)

	wantedOf(c).ids.groups[0] = 7
	require.Equal(t, []uint32{1, 2, 3}, wantedOf(d).ids.groups)
	require.NoError(t, firstFailOf(c))
	require.NoError(t, firstFailOf(d))
}

func TestACloneHasEveryAttribute(t *testing.T) {
	var out string
	c := New("x", "a").SetArgv0("y").AddEnv("A", "1").SetInput([]byte("in")).SetOutputBuffer(&out).MergeStderr().
		SetWorkingDirectory("/d").SetUmask(0o27).SetMaxFiles(9).SetUID(1).SetGID(2).SetGroups(3).SetSession().SetProcessGroup().
		SetKillMode(KillGroup).SetGracePeriod(time.Minute)
	require.Equal(t, c, c.Clone())
}

func TestACloneOfABadCommandIsBad(t *testing.T) {
	require.EqualError(t, New("").Clone().Run(context.Background()), "spawn: New: the program's name is empty")
}

func TestTheCallersSliceOfArgumentsIsCopied(t *testing.T) {
	args := make([]string, 2, 10)
	args[0], args[1] = "a", "b"
	c := New("x", args...)
	d := New("x").AddArg(args...)
	args[0] = "changed"
	c.AddArg("c")
	require.Equal(t, "x a b c", c.String())
	require.Equal(t, "x a b", d.String())
	require.Empty(t, args[:3][2])
}

// badCommands returns commands with one bad call each, by the error that is expected. Were they started, the program would
// leave the marker behind.
func badCommands(t *testing.T, marker string) map[string]*Command {
	c := func() *Command { return New("/bin/sh", "-c", "echo started >"+marker+"; exit 1") }
	open, err := os.Open(os.DevNull)
	require.NoError(t, err)
	t.Cleanup(func() { open.Close() })
	closed, err := os.Open(os.DevNull)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	var none *os.File

	pass := func(f *os.File, flags ...PassFDFlag) *Command {
		c := c()
		require.Equal(t, -1, c.PassFD(f, flags...))
		return c
	}
	flagged := c()
	flagged.PassFD(open, 6)
	bad := map[string]*Command{
		`New: the program's name is empty`:                         New(""),
		`New: the program name "/bin/sh\x00" has a NUL byte`:       New("/bin/sh\x00"),
		`New: the argument "a\x00b" has a NUL byte`:                New("/bin/sh", "-c", "exit 1", "a\x00b"),
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
	if past := int64(math.MaxUint32); past <= math.MaxInt { // on a 32-bit processor no int is too large
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
			"Records":        func() error { return firstError(c.Records(ctx, 0)) },
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
func matchAll(c *Command) error {
	return c.RunRegex(context.Background(), anyLine, func([]string) error { return nil })
}

// lastError ranges over the lines of a command.
func lastError(c *Command) (err error) {
	for _, err = range c.Lines(context.Background()) {
	}
	return err
}

func TestTheFirstBadCallIsReported(t *testing.T) {
	c := New("x").SetUmask(-1).AddArg("\x00").AddEnv("", "")
	require.ErrorContains(t, c.Run(context.Background()), "SetUmask")
	c = New("").SetUmask(-1)
	require.ErrorContains(t, c.Run(context.Background()), "New: ")
}

func TestAnUnknownUserIsTheUserDatabasesError(t *testing.T) {
	err := New("x").SetUser("no-such-user").Run(context.Background())
	require.ErrorAs(t, err, new(user.UnknownUserError))
}

func TestRunStatusOfABadCommandIsNotSuccess(t *testing.T) {
	status, err := New("").RunStatus(context.Background())
	require.Error(t, err)
	require.False(t, status.Success())
}
