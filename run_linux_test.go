package spawn

import (
	"context"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRunReturnsNilWhenTheProgramSucceeds(t *testing.T) {
	checkLeaks(t)
	require.NoError(t, New("/bin/sh", "-c", "exit 0").Run(context.Background()))
}

func TestRunReportsExitCodeAndLastLineOfStderr(t *testing.T) {
	checkLeaks(t)
	err := New("/bin/sh", "-c", "echo one >&2; echo two >&2; exit 3").Run(context.Background())
	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.Status.ExitCode)
	require.Equal(t, "one\ntwo\n", string(exit.Stderr))
	require.ErrorContains(t, err, "exit status 3: two")
}

func TestRunReportsAMissingProgram(t *testing.T) {
	checkLeaks(t)
	err := New("/nonexistent/program").Run(context.Background())
	var start *StartError
	require.ErrorAs(t, err, &start)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, `execve("/nonexistent/program")`, start.Op)
}

func TestOutputReturnsStdout(t *testing.T) {
	checkLeaks(t)
	out, err := New("/bin/echo", "a b").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "a b\n", string(out))
}

func TestStartAndAbort(t *testing.T) {
	checkLeaks(t)
	p, err := New("/bin/sleep", "1000").Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, p.Abort())
	require.ErrorContains(t, p.Wait(), "signal: terminated")
}

func TestLinesYieldsAndLeavingEndsTheChild(t *testing.T) {
	checkLeaks(t)
	var got []string
	for line, err := range New("/bin/sh", "-c", "echo a; echo b; sleep 1000").Lines(context.Background()) {
		require.NoError(t, err)
		got = append(got, line)
		if len(got) == 2 {
			break
		}
	}
	require.Equal(t, []string{"a", "b"}, got)
}
