package spawn

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// gated starts a command with a handshake and returns when it has stopped at its gate.
func gated(t testing.TB, c *Command) *Process {
	t.Helper()
	p, err := c.RequireHandshake().Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, p.HandshakeWait(context.Background()))
	return p
}

// requireNeverRan checks what every method says of a process whose program never ran, and returns the error.
func requireNeverRan(t testing.TB, p *Process) *StartError {
	t.Helper()
	<-p.Done()
	err := p.Wait()
	var start *StartError
	require.ErrorAs(t, err, &start)
	require.Equal(t, err, p.HandshakeWait(context.Background()))
	require.Equal(t, Status{ExitCode: -1}, p.Status())
	require.ErrorIs(t, p.Signal(unix.SIGTERM), os.ErrProcessDone)
	require.NoError(t, p.Abort())
	return start
}

// handshakeKinds are the ways in which a child with a handshake is made: in this process's memory, and in a copy of it.
func handshakeKinds() map[string]func(*Command) *Command {
	return map[string]func(*Command) *Command{
		"shared memory": func(c *Command) *Command { return c },
		"own memory":    func(c *Command) *Command { return otherIDs(c) },
	}
}

func forEachHandshake(t *testing.T, f func(t *testing.T, with func(*Command) *Command)) {
	for name, with := range handshakeKinds() {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			f(t, with)
		})
	}
}
