//go:build linux

package plan_test

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func TestDescriptorsMayHaveTheNumbersThatTheLibraryUses(t *testing.T) {
	testkit.CheckLeaks(t)
	// A change of credentials, be it to the same ones, is reported through
	// a pipe.
	command := func(c *spawn.Command) *spawn.Command { return c.SetUID(os.Getuid()) }
	c0 := command(testkit.Waiting())
	pl, err := testkit.Planned(c0, plan.Watched)
	require.NoError(t, err)
	status := pl.FirstChildEnd()
	pl.Release()
	require.Less(t, status, 70)

	f := testkit.Memfd(t, "f", 100)
	testkit.RequireTable(t, command(testkit.Waiting()).PassFDAs(f, status), map[int]testkit.Inode{status: testkit.InodeOf(t, f)})
	c, d, want := testkit.Waiting(), command(testkit.Waiting()), map[int]testkit.Inode{}
	for n := 3; n < 80; n++ {
		c.PassFDAs(f, n)
		d.PassFDAs(f, n)
		want[n] = testkit.InodeOf(t, f)
	}
	testkit.RequireTable(t, c, want)
	testkit.RequireTable(t, d, want)

	// A failure is reported in spite of that.
	c, d = spawn.New("/nonexistent").PassFDAs(f, status), command(spawn.New("/nonexistent").PassFDAs(f, status))
	require.ErrorIs(t, c.Run(context.Background()), unix.ENOENT)
	require.ErrorIs(t, d.Run(context.Background()), unix.ENOENT)
	p, err := d.Start(context.Background())
	require.Nil(t, p)
	require.ErrorIs(t, err, unix.ENOENT)
}
