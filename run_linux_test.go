package spawn_test

import (
	"context"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
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
