package testkit

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

// RequireAnySignal checks that a signal ended the program, and returns which.
func RequireAnySignal(t testing.TB, err error) unix.Signal {
	t.Helper()
	var exit *spawn.ExitError
	require.ErrorAs(t, err, &exit)
	require.NotZero(t, exit.Status.Signal, "%v", err)
	return exit.Status.Signal
}

// RequireNotStarted checks that nothing was started because of this step and
// this error.
func RequireNotStarted(t testing.TB, err error, op string, is error) *spawn.StartError {
	t.Helper()
	var start *spawn.StartError
	require.ErrorAs(t, err, &start)
	require.Equal(t, op, start.Op)
	require.ErrorIs(t, err, is)
	RequireNoChild(t)
	return start
}

// RequireTable starts a command made by Waiting and checks that its program has
// exactly these descriptors, and the standard streams.
func RequireTable(t testing.TB, c *spawn.Command, want map[int]Inode) {
	t.Helper()
	p := Live(t, c)
	defer Stop(t, p)
	got := LiveTable(t, p)
	require.Equal(t, fifo(t, p.Stdin()), got[0], "stdin")
	require.Equal(t, fifo(t, p.Stdout()), got[1], "stdout")
	all := map[int]Inode{0: got[0], 1: got[1], 2: nullInode(t)}
	maps.Copy(all, want)
	require.Equal(t, all, got)
}

// RequireNeverRan checks what every method says of a process whose program
// never ran, and returns the error.
func RequireNeverRan(t testing.TB, p *spawn.Process) *spawn.StartError {
	t.Helper()
	<-p.Done()
	err := p.Wait()
	var start *spawn.StartError
	require.ErrorAs(t, err, &start)
	require.Equal(t, err, p.HandshakeWait(context.Background()))
	require.Equal(t, spawn.Status{ExitCode: -1}, p.Status())
	require.ErrorIs(t, p.Signal(unix.SIGTERM), os.ErrProcessDone)
	require.NoError(t, p.Abort())
	return start
}

// RequirePidFile checks a pid file and who holds it; 0 is nobody.
func RequirePidFile(t testing.TB, path string, pid, holder int) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintln(pid), string(text))
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode(), "others could lock it")
	require.Equal(t, holder, LockedBy(t, path))
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "a temporary file is left")
}

// RequireExit checks that the program exited with this code.
func RequireExit(t testing.TB, err error, code int) *spawn.ExitError {
	t.Helper()
	var exit *spawn.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, code, exit.Status.ExitCode, "%v", err)
	require.Zero(t, exit.Status.Signal)
	return exit
}

// RequireSignal checks that this signal ended the program.
func RequireSignal(t testing.TB, err error, sig syscall.Signal) *spawn.ExitError {
	t.Helper()
	var exit *spawn.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, sig, exit.Status.Signal, "%v", err)
	require.Equal(t, -1, exit.Status.ExitCode)
	return exit
}
