package spawn_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/gocapability/capability"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func TestRunReturnsNilWhenTheProgramSucceeds(t *testing.T) {
	testkit.CheckLeaks(t)
	require.NoError(t, spawn.New("/bin/sh", "-c", "exit 0").Run(context.Background()))
}

func TestRunReportsExitCodeAndLastLineOfStderr(t *testing.T) {
	testkit.CheckLeaks(t)
	err := spawn.New("/bin/sh", "-c", "echo one >&2; echo two >&2; exit 3").Run(context.Background())
	var exit *spawn.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.Status.ExitCode)
	require.Equal(t, "one\ntwo\n", string(exit.Stderr))
	require.ErrorContains(t, err, "exit status 3: two")
}

func TestRunReportsAMissingProgram(t *testing.T) {
	testkit.CheckLeaks(t)
	err := spawn.New("/nonexistent/program").Run(context.Background())
	var start *spawn.StartError
	require.ErrorAs(t, err, &start)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, `execve("/nonexistent/program")`, start.Op)
}

func TestOutputReturnsStdout(t *testing.T) {
	testkit.CheckLeaks(t)
	out, err := spawn.New("/bin/echo", "a b").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "a b\n", string(out))
}

func TestStartAndAbort(t *testing.T) {
	testkit.CheckLeaks(t)
	p, err := spawn.New("/bin/sleep", "1000").Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, p.Abort())
	require.ErrorContains(t, p.Wait(), "signal: terminated")
}

func TestLinesYieldsAndLeavingEndsTheChild(t *testing.T) {
	testkit.CheckLeaks(t)
	var got []string
	for line, err := range spawn.New("/bin/sh", "-c", "echo a; echo b; sleep 1000").Lines(context.Background()) {
		require.NoError(t, err)
		got = append(got, line)
		if len(got) == 2 {
			break
		}
	}
	require.Equal(t, []string{"a", "b"}, got)
}

func init() {
	testkit.Helpers["records-of-another-user"] = leaveAnotherUsersProgram
}

// records collects what Records yields.
func records(c *spawn.Command, sep byte) (got []string, err error) {
	for record, e := range c.Records(context.Background(), sep) {
		if err = e; e != nil {
			record = "ERROR" + record
		}
		got = append(got, record)
	}
	return got, err
}

// recordsError returns the error of Records.
func recordsError(c *spawn.Command) error {
	_, err := records(c, 0)
	return err
}

// failOnMatch is for a RunRegex that must not come so far.
func failOnMatch(t *testing.T) func([]string) error {
	return func(groups []string) error {
		t.Errorf("it was called with %q", groups)
		return nil
	}
}

// matches collects the groups that RunRegex gives.
func matches(c *spawn.Command, re string) (got [][]string, err error) {
	err = c.RunRegex(context.Background(), regexp.MustCompile(re), func(groups []string) error {
		got = append(got, groups)
		return nil
	})
	return got, err
}

func TestRecordsSplitsAtTheSeparatorOnly(t *testing.T) {
	long := strings.Repeat("long\n", 1<<18)
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		for _, sep := range []byte{0, '\n', 'x', ' ', 0xff} {
			for text, want := range map[string][]string{
				"":                       nil,
				"|":                      {""},
				"||":                     {"", ""},
				"a":                      {"a"},
				"a|":                     {"a"},
				"a|b":                    {"a", "b"},
				"a\r\t,\xfe|\xc3\xbf|;|": {"a\r\t,\xfe", "\xc3\xbf", ";"},
				"a|" + long + "||end":    {"a", long, "", "end"},
			} {
				if sep == '\n' {
					text, want = strings.ReplaceAll(text, "\n", "_"), slices.Clone(want)
					for i := range want {
						want[i] = strings.ReplaceAll(want[i], "\n", "_")
					}
				}
				got, err := records(spawn.New("/bin/cat").SetInput([]byte(strings.ReplaceAll(text, "|", string([]byte{sep})))), sep)
				require.NoError(t, err)
				require.True(t, slices.Equal(want, got), "%q: %.20q: %.20q", sep, text, got)
			}
		}
	})
}

func TestRecordsTakesFileNamesOfAnyKind(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	names := []string{"plain", "with space", "two\nlines", "-n", "\n", "\xff'\""}
	for _, name := range names {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	got, err := records(spawn.New("find", dir, "-type", "f", "-print0"), 0)
	require.NoError(t, err)
	for i := range got {
		got[i] = strings.TrimPrefix(got[i], dir+"/")
	}
	require.ElementsMatch(t, names, got)
}

func TestRecordsYieldsTheErrorLast(t *testing.T) {
	testkit.CheckLeaks(t)
	got, err := records(testkit.Shell(`printf 'a\0b\nc'; echo reason >&2; exit 3`), 0)
	require.Equal(t, []string{"a", "b\nc", "ERROR"}, got)
	var exit *spawn.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.Status.ExitCode)
	require.ErrorContains(t, err, "exit status 3: reason")

	got, err = records(spawn.New("/nonexistent/program"), 0)
	require.Equal(t, []string{"ERROR"}, got)
	require.ErrorIs(t, err, fs.ErrNotExist)

	got, err = records(spawn.New(""), 0)
	require.Equal(t, []string{"ERROR"}, got)
	require.ErrorContains(t, err, "name is empty")
}

func TestALongRecordTakesTwiceItsLength(t *testing.T) {
	testkit.CheckLeaks(t)
	const n = 32 << 20
	file := testkit.DataFile(t, make([]byte, n))
	all := testkit.Allocated(func() {
		for record, err := range spawn.New("/bin/cat", file).Records(context.Background(), 'x') {
			require.NoError(t, err)
			require.Len(t, record, n)
		}
	})
	t.Logf("%.2f bytes for a byte", float64(all)/n)
	require.Less(t, all, uint64(n*22/10))
}

func TestRecordsThatAreGoneKeepNoMemory(t *testing.T) {
	testkit.CheckLeaks(t)
	const n, length = 1 << 10, 32 << 10
	file := testkit.DataFile(t, []byte(strings.Repeat(strings.Repeat("r", length-1)+"\x00", n)))
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var first, last uint64
	i := 0
	for record, err := range spawn.New("/bin/cat", file).Records(context.Background(), 0) {
		require.NoError(t, err)
		require.Len(t, record, length-1)
		switch i++; i {
		case 2:
			first = live()
		case n:
			last = live()
		}
	}
	require.Equal(t, n, i)
	require.Less(t, last, first+1<<20, "of 32 MiB")
}

func TestRunRegexGivesTheGroupsOfLinesThatMatch(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		got, err := matches(spawn.New("/bin/cat").SetInput([]byte("a=1\n\nnone\nb= \n see c=3 and d=4\ne=5")), `(?P<name>[a-z])=(?:([0-9])|( ))`)
		require.NoError(t, err)
		require.Equal(t, [][]string{{"a=1", "a", "1", ""}, {"b= ", "b", "", " "}, {"c=3", "c", "3", ""}, {"e=5", "e", "5", ""}}, got)

		got, err = matches(spawn.New("/bin/cat").SetInput([]byte("a\nba\n\na\r\n")), `^a?$`)
		require.NoError(t, err)
		require.Equal(t, [][]string{{"a"}, {""}}, got, "line feeds are not there, carriage returns are")

		got, err = matches(spawn.New("/bin/cat").SetInput([]byte(long+"y\n"+long)), `x(y?)$`)
		require.NoError(t, err)
		require.Equal(t, [][]string{{"xy", "y"}, {"x", ""}}, got)

		got, err = matches(spawn.New("/bin/cat").SetInput([]byte("a\nb\n")), `c`)
		require.NoError(t, err, "that nothing matches is no error")
		require.Empty(t, got)
	})
}

func TestRunRegexCallsAsTheLinesCome(t *testing.T) {
	testkit.CheckLeaks(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	n := 0
	err = testkit.Shell("echo one; read x; echo two").SetStdin(r).RunRegex(context.Background(), testkit.AnyLine, func(groups []string) error {
		if n++; n == 1 {
			require.Equal(t, []string{"one"}, groups)
			return w.Close() // for which the program waits before it goes on
		}
		require.Equal(t, []string{"two"}, groups)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.NoError(t, r.Close())
}

func TestRunRegexReportsWhatRunReports(t *testing.T) {
	testkit.CheckLeaks(t)
	got, err := matches(testkit.Shell("echo a; echo reason >&2; exit 3"), "a")
	require.Equal(t, [][]string{{"a"}}, got)
	var exit *spawn.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.Status.ExitCode)
	require.NoError(t, exit.Err)
	require.ErrorContains(t, err, "exit status 3: reason")

	_, err = matches(spawn.New("/nonexistent/program"), "a")
	var start *spawn.StartError
	require.ErrorAs(t, err, &start)
	require.ErrorIs(t, err, fs.ErrNotExist)

	_, err = matches(spawn.New("/bin/cat").SetStdin(failingReader{errBoom}), "a")
	require.ErrorIs(t, err, errBoom)
}

func TestAnErrorOfTheFunctionOfRunRegexEndsTheProgram(t *testing.T) {
	for name, test := range map[string]struct {
		script, text string
		status       spawn.Status
	}{
		"by SIGTERM":     {"echo why >&2; printf '1\\n2\\n'; sleep 1000", "mine (signal: terminated): why", spawn.Status{ExitCode: -1, Signal: syscall.SIGTERM}},
		"by its pipe":    {"trap '' TERM; while :; do echo 1; done", "mine (signal: broken pipe)", spawn.Status{ExitCode: -1, Signal: syscall.SIGPIPE}},
		"by its own end": {"trap 'exit 7' TERM; echo 1; while :; do :; done", "mine (exit status 7)", spawn.Status{ExitCode: 7}},
		"by SIGKILL":     {"trap '' TERM; echo 1; while :; do :; done", "mine (signal: killed)", spawn.Status{ExitCode: -1, Signal: syscall.SIGKILL}},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			mine := errors.New("mine")
			n := 0
			cmd := testkit.Shell(test.script).SetGracePeriod(time.Minute)
			if test.status.Signal == syscall.SIGKILL {
				cmd.SetGracePeriod(10 * time.Millisecond)
			}
			err := cmd.RunRegex(context.Background(), regexp.MustCompile("[0-9]"), func(groups []string) error {
				n++
				return fmt.Errorf("%s: %w", groups[0], mine)
			})
			testkit.RequireNoChild(t)
			require.Equal(t, 1, n, "it is not called again")
			require.ErrorIs(t, err, mine)
			var exit *spawn.ExitError
			require.ErrorAs(t, err, &exit)
			require.EqualError(t, exit.Err, "1: mine")
			require.Equal(t, test.status, spawn.Status{ExitCode: exit.Status.ExitCode, Signal: exit.Status.Signal})
			require.ErrorContains(t, err, ": 1: "+test.text)
		})
	}
}

func TestAnErrorOfTheFunctionOfRunRegexIsReturnedAfterTheEndToo(t *testing.T) {
	testkit.CheckLeaks(t)
	ended, mine := filepath.Join(t.TempDir(), "ended"), errors.New("mine")
	err := testkit.Shell(`echo a; mkfifo "$1"; exec 3<"$1"`, ended).RunRegex(context.Background(), testkit.AnyLine, func([]string) error {
		testkit.Eventually(t, "a reader", func() bool {
			fd, err := unix.Open(ended, unix.O_WRONLY|unix.O_NONBLOCK, 0)
			_ = unix.Close(fd)
			return err == nil
		})
		var info unix.Siginfo
		for unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT|unix.WALL, nil) == unix.EINTR {
		}
		return mine
	})
	require.ErrorIs(t, err, mine)
	require.ErrorContains(t, err, ": mine (exit status 0)")
}

func TestRunRegexRefusesBadCalls(t *testing.T) {
	testkit.CheckLeaks(t)
	ctx, nothing := context.Background(), failOnMatch(t)
	err := spawn.New("/bin/echo").RunRegex(ctx, nil, nothing)
	require.EqualError(t, err, "spawn: RunRegex: the regular expression is nil")
	err = spawn.New("/bin/echo").RunRegex(ctx, testkit.AnyLine, nil)
	require.EqualError(t, err, "spawn: RunRegex: the function is nil")
	err = spawn.New("/bin/echo").SetUmask(-1).RunRegex(ctx, nil, nil)
	require.ErrorContains(t, err, "SetUmask", "the first bad call")

	f, err := os.Open("/dev/null")
	require.NoError(t, err)
	require.Error(t, spawn.New("/bin/echo").PassFDAs(f, 3, spawn.CloseParent).RunRegex(ctx, nil, nothing))
	require.ErrorIs(t, f.Close(), os.ErrClosed, "closed by the call that fails")
}

func TestRunRegexSaysWhenTheProgramCannotBeEnded(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.NeedsRoot(t, "to have a program of another user")
	program := testkit.CopySelf(t)
	require.NoError(t, os.Chmod(program, 0o755))
	out, err := spawn.New(program, testkit.HelperPrefix+"records-of-another-user").AddEnv("GORACE", "atexit_sleep_ms=0").
		SetUID(testkit.Nobody).SetGID(testkit.Nobody).SetAmbientCaps(capability.CAP_SETUID, capability.CAP_SETGID).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "spawn: /bin/sh -c 'echo a; read x' sh: mine; it runs on: pidfd_send_signal: operation not permitted (exit status unknown)\ntrue\n", string(out))
}

// leaveAnotherUsersProgram gets the right to start programs as another user but
// none to end them.
func leaveAnotherUsersProgram([]string) int {
	r, w, err := os.Pipe()
	if err != nil {
		return 1
	}
	mine := errors.New("mine")
	err = testkit.Shell("echo a; read x").SetStdin(r).SetUID(1).SetGID(1).RunRegex(context.Background(), testkit.AnyLine, func([]string) error { return mine })
	fmt.Println(err)
	fmt.Println(errors.Is(err, mine) && errors.Is(err, unix.EPERM))
	w.Close() // which ends it
	return 0
}
