//go:build linux

package plan_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/testkit"
)

func init() {
	testkit.Helpers["explain-and-start"] = explainAndStart
}

func TestExplainStartsAndOpensNothing(t *testing.T) {
	testkit.CheckLeaks(t)
	ran := filepath.Join(t.TempDir(), "ran")
	s := "untouched"
	c := testkit.Shell(`echo >"$1"`, ran).SetInput([]byte("text")).SetOutputBuffer(new(string)).SetStderr(io.Discard)
	testkit.Wanted(c).Streams[command.Stdout].Value = &s
	before := testkit.OpenFDs(t)
	first, err := c.Explain()
	require.NoError(t, err)
	for range 50 {
		text, err := c.Explain()
		require.NoError(t, err)
		require.Equal(t, first, text)
	}
	testkit.RequireNoChild(t)
	require.Zero(t, program.InUse())
	require.Equal(t, before, testkit.OpenFDs(t))
	require.NoFileExists(t, ran)
	require.Equal(t, "untouched", s)

	_, err = spawn.New("/bin/cat").PipeStdin().PipeStdout().Explain()
	require.NoError(t, err)
}

func TestExplainSaysWhyThereIsNothingToExplain(t *testing.T) {
	testkit.CheckLeaks(t)
	_, err := spawn.New("").Explain()
	require.ErrorContains(t, err, "spawn: New: the program's name is empty")
	_, err = spawn.New("no-such-program-anywhere").Explain()
	require.ErrorIs(t, err, exec.ErrNotFound)
}

func TestExplainAndStringHideSecretsAndData(t *testing.T) {
	testkit.CheckLeaks(t)
	c := spawn.New("/bin/true", "shown").AddSecretArg("hidden1").AddEnv("A", "shown").AddSecretEnv("B", "hidden2").SetInput([]byte("hidden3"))
	c.SetSendBuffer([]byte("hidden4"))
	text, err := c.Explain()
	require.NoError(t, err)
	require.Contains(t, text, `execve("/bin/true", ["/bin/true", "shown", "***"], ["A=shown", "B=***"])`)
	require.NotContains(t, text, "hidden")
	require.Equal(t, "A=shown B=*** /bin/true shown ***", c.String())

	testkit.Wanted(c).Name = "/nonexistent/program"
	for _, err := range []error{c.Run(context.Background()), c.Exec()} {
		require.ErrorIs(t, err, os.ErrNotExist)
		require.NotContains(t, err.Error(), "hidden")
	}
	testkit.Wanted(c).Name = "/bin/false"
	err = c.Run(context.Background())
	testkit.RequireExit(t, err, 1)
	require.NotContains(t, err.Error(), "hidden")
}

func TestExplainListsTheStepsInTheirOrder(t *testing.T) {
	testkit.CheckLeaks(t)
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	c := spawn.New("/bin/true", "a b\n").ClearEnv().AddEnv("A", "value").SetInput([]byte("text")).
		PassFDAs(f, 200).SetUmask(0o27).SetMaxCoreSize(0).SetProcessGroup().
		SetGroups(7, 8).SetGID(9).SetUID(10).SetWorkingDirectory("/tmp")
	text, err := c.Explain()
	require.NoError(t, err)
	first := []string{"close_range", "dup3", "close_range", "openat", "dup3", "fcntl", "execveat", "prctl", "fcntl", "setpgid"}
	switch {
	case !plan.CanClone(): // a helper is born with its descriptors
		first = []string{"setpgid", "prctl"}
	}
	if os.Getuid() != 0 && plan.CanClone() { // who stays dumpable for longer
		first = append(slices.DeleteFunc(first, func(s string) bool { return s == "prctl" }), "prctl")
		first = slices.Compact(first)
	}
	names := testkit.CallNames(text)
	require.Equal(t, append(first,
		"umask", "prlimit64", "setgroups", "setresgid", "setresuid", "chdir", "rt_sigaction", "rt_sigprocmask", "execve"), names)

	lines := strings.Split(text, "\n")
	if plan.CanClone() {
		require.Regexp(t, `^close_range\(\d+, ~0U, CLOSE_RANGE_UNSHARE\)$`, lines[0])
		for _, line := range []string{
			`openat(AT_FDCWD, "/dev/null", O_RDWR) = 1`, "dup3(1, 2, 0)", fmt.Sprintf("dup3(%d, 200, 0)", descriptor.Of(f)),
		} {
			require.Contains(t, lines, line)
		}
	}
	for _, line := range []string{
		"setpgid(0, 0)", "umask(027)", "prlimit64(0, RLIMIT_CORE, {soft=0, hard=0}, NULL)", "setgroups(2, [7, 8])",
		"setresgid(9, 9, 9)", "setresuid(10, 10, 10)", `chdir("/tmp")`,
		"rt_sigaction(SIGHUP, {sa_handler=SIG_DFL}, NULL, 8)", "rt_sigprocmask(SIG_SETMASK, [], NULL, 8)",
		`execve("/bin/true", ["/bin/true", "a b\n"], ["A=value"])`,
	} {
		require.Contains(t, lines, line)
	}
	require.Equal(t, 62, strings.Count(text, "rt_sigaction("), "every signal but SIGKILL and SIGSTOP")
	require.NotContains(t, text, "SIGKILL")
	require.NotContains(t, text, "SIGSTOP")
	require.True(t, strings.HasSuffix(text, ")\n"))

	text, err = spawn.New("/bin/true").SetSession().Explain()
	require.NoError(t, err)
	require.Contains(t, "\n"+text, "\nsetsid()\n")
}

func TestExplainShowsTheInheritedEnvironment(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("SPAWN_TEST_VARIABLE", "its value")
	text, err := spawn.New("/bin/true").Explain()
	require.NoError(t, err)
	require.Contains(t, text, `"SPAWN_TEST_VARIABLE=its value"`)
}

// explained is a command whose program has many different calls.
func explained() (*spawn.Command, error) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	c := spawn.New("/bin/true", "a b\n\"").AddEnv("A", "value").SetArgv0("argument 0").
		SetInput([]byte("text")).SetUmask(0o27).SetMaxCoreSize(0).SetRlimit(command.RlimitNofile, 100, 200).
		SetProcessGroup().SetWorkingDirectory("/tmp").PassFDAs(f, 100)
	c.PassFD(f)
	return c, nil
}

// explainAndStart explains a command, starts it and prints the child's pid and
// the explanation.
func explainAndStart([]string) int {
	c, err := explained()
	if err != nil {
		return testkit.Fail(err)
	}
	text, err := c.Explain()
	if err != nil {
		return testkit.Fail(err)
	}
	p, err := c.Start(context.Background())
	if err != nil {
		return testkit.Fail(err)
	}
	if err := p.Wait(); err != nil {
		return testkit.Fail(err)
	}
	fmt.Printf("%d\n%s", p.PID(), text)
	return 0
}

func TestExplainShowsWhatStraceShows(t *testing.T) {
	if plan.Forced() {
		t.Skip("needs the executor that a command would have by itself, which is explained")
	}
	if plan.HelperForced() || !plan.CanClone() {
		t.Skip("a helper makes calls of its own, between those that Explain shows")
	}
	strace := testkit.NeedsProgram(t, "strace")
	trace := filepath.Join(t.TempDir(), "trace")
	if err := exec.Command(strace, "-o", trace, "/bin/true").Run(); err != nil {
		t.Skip("strace cannot trace here: ", err)
	}
	testkit.CheckLeaks(t)
	// -ff: a file for each process, so that no line is interrupted by
	// another process.
	out, err := spawn.New(strace, "-ff", "-v", "-s", "1000", "-o", trace, testkit.Self(t), testkit.HelperPrefix+"explain-and-start").
		Output(context.Background())
	require.NoError(t, err)
	pid, text, _ := strings.Cut(string(out), "\n")
	traced, err := os.ReadFile(trace + "." + pid)
	require.NoError(t, err)

	var calls []string
	for line := range strings.Lines(string(traced)) {
		calls = append(calls, likeExplain(strings.TrimSpace(line)))
		if strings.HasPrefix(line, "execve(") {
			break
		}
	}
	var want []string
	for line := range strings.Lines(text) {
		want = append(want, withoutResult.ReplaceAllString(strings.TrimSpace(line), ")"))
	}
	require.Equal(t, want, calls)
}

var signalMask = regexp.MustCompile(`, sa_mask=[^}]*\}`)

// handler is the address of the one that a child has.
var handler = regexp.MustCompile(`sa_handler=0x[0-9a-f]+`)

var withoutResult = regexp.MustCompile(`\)\s+= [^)]*$`)

// likeExplain writes what strace prints the way Explain does, where
// they differ.
func likeExplain(line string) string {
	line = withoutResult.ReplaceAllString(line, ")")
	for _, r := range []struct{ from, to string }{
		{"rlim_cur=", "soft="},
		{"rlim_max=", "hard="},
		{"4294967295", "~0U"},
	} {
		line = strings.ReplaceAll(line, r.from, r.to)
	}
	return handler.ReplaceAllString(signalMask.ReplaceAllString(line, "}"), "sa_handler=die")
}
