//go:build linux

package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

// TestMain makes a copy of this test binary that is named as the example be the
// example. So the tests run the real thing, also where there is no go command.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == argv0 {
		main()
	}
	os.Exit(m.Run())
}

// lockdown returns a command that runs the example, from a file that every user
// may execute.
func lockdown(t *testing.T, args ...string) *spawn.Command {
	dir, err := os.MkdirTemp("", "test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	program, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	path := filepath.Join(dir, argv0)
	require.NoError(t, os.WriteFile(path, program, 0o755))
	return spawn.New(path, args...).AddEnvPassAllowSUID("PATH")
}

// users runs the test as the current user and, for root, as nobody.
func users(t *testing.T, test func(t *testing.T, root bool, cmd *spawn.Command)) {
	root := os.Geteuid() == 0
	t.Run("current user", func(t *testing.T) { test(t, root, lockdown(t)) })
	if root {
		t.Run("nobody", func(t *testing.T) { test(t, false, lockdown(t).SetUID(nobody).SetGID(nobody)) })
	}
}

// output runs the example. On success it writes nothing to standard error.
func output(t *testing.T, cmd *spawn.Command) string {
	var out, errors string
	require.NoError(t, cmd.SetOutputBuffer(&out).SetErrorBuffer(&errors).Run(context.Background()), "%s", &errors)
	require.Empty(t, errors)
	return out
}

// cells returns the two cells of a row, each on one line.
func cells(t *testing.T, out, name string) (theirs, ours string) {
	lines := strings.Split(out, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, name) {
			continue
		}
		for {
			theirs += " " + column(line, 0)
			ours += " " + column(line, 1)
			i++
			line = lines[i]
			if line == "" || rowStart.MatchString(line) {
				return strings.TrimSpace(theirs), strings.TrimSpace(ours)
			}
		}
	}
	t.Fatalf("no row %q in\n%s", name, out)
	return "", ""
}

// rowStart tells the first line of a row from those to which it was wrapped.
var rowStart = regexp.MustCompile(`^(open|environment|umask|ignored|limits|user|parent's|time)`)

// column returns the part of a line that belongs to a cell.
func column(line string, n int) string {
	r := []rune(line)
	from := nameWidth + len(gap) + n*(cellWidth+len(gap))
	to := from + cellWidth
	if from >= len(r) {
		return ""
	}
	return strings.TrimSpace(string(r[from:min(to, len(r))]))
}

func TestTableShowsWhatLeaksFromOsExecAndNotFromSpawn(t *testing.T) {
	users(t, func(t *testing.T, root bool, cmd *spawn.Command) {
		out := output(t, cmd)
		require.NotContains(t, out, "\x1b", "colours are for terminals")

		theirs, ours := cells(t, out, "open descriptors")
		require.Contains(t, theirs, "/lockdown-")
		require.Contains(t, theirs, "(it can read the secret there)")
		require.Contains(t, theirs, "socket:")
		require.Equal(t, "none", ours)

		theirs, ours = cells(t, out, "environment")
		require.Contains(t, theirs, secretName)
		require.NotContains(t, ours, secretName)
		require.Contains(t, ours, "LC_ALL")

		theirs, ours = cells(t, out, "umask")
		require.Equal(t, "0000", theirs)
		require.Equal(t, "0077", ours)

		theirs, ours = cells(t, out, "ignored signals")
		require.Equal(t, "SIGHUP SIGUSR1 SIGPIPE", theirs)
		require.Equal(t, "none", ours)

		_, ours = cells(t, out, "limits")
		require.Equal(t, "open files 256 core size 0", ours)

		_, ours = cells(t, out, "user and groups")
		require.Equal(t, root, strings.HasPrefix(ours, "uid 65534, gid 65534") && strings.Contains(out, "\nsetresuid("))

		theirs, ours = cells(t, out, "parent's dumpable")
		if root {
			require.Contains(t, theirs, "was 1")
			require.Equal(t, "1, as before", ours)
			require.NotContains(t, out, "Not shown")
		} else {
			require.Equal(t, "not shown", theirs)
			require.Equal(t, "not shown", ours)
			require.Contains(t, out, "Not shown: the parent's dumpable flag")
		}

		theirs, ours = cells(t, out, "time to start")
		require.Regexp(t, `^\d+ µs`, theirs)
		require.Regexp(t, `^\d+ µs .*\(\d+\.\d\d times os/exec's\)`, ours)

		require.Contains(t, out, "\numask(077)\n")
		require.Regexp(t, `\n… \d+ more lines of rt_sigaction; -full prints them\n`, out)
		require.Regexp(t, `\nexecve(at\(\d+, ""|\("/proc/self/exe"), \["lockdown", "report-as-child"\], \[.*"LC_ALL=C"\](, AT_EMPTY_PATH)?\)\n$`, out)
	})
}

func TestFullPrintsEverySystemCall(t *testing.T) {
	out := output(t, lockdown(t, "-full"))
	require.NotContains(t, out, "…")
	require.Equal(t, 62, strings.Count(out, "\nrt_sigaction("))
}

func TestNoTemporaryFileIsLeft(t *testing.T) {
	dir := t.TempDir()
	output(t, lockdown(t).AddEnv("TMPDIR", dir))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestWorksWithoutCat(t *testing.T) {
	out := output(t, lockdown(t).ClearEnv().AddEnv("PATH", "/nonexistent"))
	require.Contains(t, out, "there is no cat")
	theirs, ours := cells(t, out, "ignored signals")
	require.Equal(t, "SIGHUP", theirs, "the Go runtime leaves this one alone")
	require.Equal(t, "none", ours)
}

func TestColoursOnlyOnATerminal(t *testing.T) {
	require.Contains(t, outputOnTerminal(t, lockdown(t)), "\x1b[32mnone\x1b[0m")
	require.NotContains(t, outputOnTerminal(t, lockdown(t).AddEnv("NO_COLOR", "1")), "\x1b")
}

// outputOnTerminal runs the example with a terminal for its standard output.
func outputOnTerminal(t *testing.T, cmd *spawn.Command) string {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals: ", err)
	}
	defer master.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	terminal, err := os.OpenFile(ptsName(t, master), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer terminal.Close()

	p, err := cmd.SetStdout(terminal).Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, terminal.Close())
	out, err := io.ReadAll(master)
	require.ErrorIs(t, err, unix.EIO) // how the end of a terminal reads
	require.NoError(t, p.Wait())
	return strings.ReplaceAll(string(out), "\r\n", "\n")
}

func ptsName(t *testing.T, master *os.File) string {
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	return filepath.Join("/dev/pts", strconv.Itoa(n))
}
