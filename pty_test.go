package spawn_test

import (
	"bufio"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
)

func TestDryRunServesAPTY(t *testing.T) {
	p, err := spawn.New(testkit.Missing).SetPTY(24, 80).Start(testkit.Dry(func(d *spawn.DryRunCall) {
		d.Stdout = "name? "
		d.Flush()
		name, _ := bufio.NewReader(d.Input()).ReadString('\n')
		d.Stdout, d.Stderr, d.ExitCode = "hello "+name, "rest: "+d.Stdin(), 3
	}))
	require.NoError(t, err)
	prompt := make([]byte, 6)
	_, err = io.ReadFull(p.PTY(), prompt)
	require.NoError(t, err)
	require.Equal(t, "name? ", string(prompt))
	_, err = io.WriteString(p.PTY(), "x\n\x04ignored")
	require.NoError(t, err)
	require.NoError(t, p.Resize(1, 2))
	rest, err := io.ReadAll(p.PTY())
	require.NoError(t, err)
	require.Equal(t, "hello x\nrest: ", string(rest))
	var exit *spawn.ExitError
	require.ErrorAs(t, p.Wait(), &exit)
	require.Equal(t, 3, exit.Status.ExitCode)
	_, err = p.PTY().Write([]byte("x"))
	require.ErrorIs(t, err, syscall.EIO)
	require.NoError(t, p.PTY().Close())
	require.ErrorIs(t, p.Resize(1, 2), os.ErrClosed)
	_, err = p.PTY().Write([]byte("x"))
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestDryRunOnAPTYWithStreamsElsewhere(t *testing.T) {
	var out string
	p, err := spawn.New(testkit.Missing).SetPTY(0, 0).SetInput([]byte("data")).SetOutputBuffer(&out).SetStderr(nil).
		Start(testkit.Dry(func(d *spawn.DryRunCall) { d.Stdout, d.Stderr = d.Stdin(), "lost" }))
	require.NoError(t, err)
	shown, err := io.ReadAll(p.PTY())
	require.NoError(t, err)
	require.Empty(t, shown)
	require.NoError(t, p.Wait())
	require.Equal(t, "data", out)
	require.NoError(t, p.PTY().Close())
}

func TestDryRunIsHungUpOn(t *testing.T) {
	p, err := spawn.New(testkit.Missing).SetPTY(0, 0).Start(testkit.Dry(func(d *spawn.DryRunCall) {
		d.Flush()
		<-d.Context().Done()
	}))
	require.NoError(t, err)
	require.NoError(t, p.PTY().Close())
	var exit *spawn.ExitError
	require.ErrorAs(t, p.Wait(), &exit)
	require.Equal(t, syscall.SIGHUP, exit.Status.Signal)
}
