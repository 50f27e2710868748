package spawn

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestDescriptorsMayHaveTheNumbersThatTheLibraryUses(t *testing.T) {
	checkLeaks(t)
	// A change of credentials, be it to the same ones, is reported through a pipe.
	command := func(c *Command) *Command { return c.SetUID(os.Getuid()) }
	c0 := command(waiting())
	pl, err := planned(c0, watched)
	require.NoError(t, err)
	status := pl.firstChildEnd()
	pl.release()
	require.Less(t, status, 70)

	f := memfd(t, "f", 100)
	requireTable(t, command(waiting()).PassFDAs(f, status), map[int]inode{status: inodeOf(t, f)})
	c, d, want := waiting(), command(waiting()), map[int]inode{}
	for n := 3; n < 80; n++ {
		c.PassFDAs(f, n)
		d.PassFDAs(f, n)
		want[n] = inodeOf(t, f)
	}
	requireTable(t, c, want)
	requireTable(t, d, want)

	// A failure is reported in spite of that.
	c, d = New("/nonexistent").PassFDAs(f, status), command(New("/nonexistent").PassFDAs(f, status))
	require.ErrorIs(t, c.Run(context.Background()), unix.ENOENT)
	require.ErrorIs(t, d.Run(context.Background()), unix.ENOENT)
	p, err := d.Start(context.Background())
	require.Nil(t, p)
	require.ErrorIs(t, err, unix.ENOENT)
}
