package spawn

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// shell returns a command that runs a script with arguments.
func shell(script string, args ...string) *Command {
	return New("/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
}

// dataFile writes data to a file and returns its path.
func dataFile(t testing.TB, data []byte) string {
	path := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.WriteFile(path, data, 0o644))
	return path
}

// inBothWaits runs a test twice: waits block a thread, and waits are all parked.
func inBothWaits(t *testing.T, f func(t *testing.T)) {
	t.Run("blocked", f)
	t.Run("parked", func(t *testing.T) {
		t.Cleanup(takeAllWaits())
		f(t)
	})
}

// zeros is a reader without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// waitForNoChild waits until the library has waited for the only child.
func waitForNoChild(t testing.TB) {
	t.Helper()
	eventually(t, "no child left", func() bool {
		var info unix.Siginfo
		return unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil) == unix.ECHILD
	})
}

// lines collects what Lines yields.
func lines(c *Command) (got []string, err error) {
	for line, e := range c.Lines(context.Background()) {
		if e != nil {
			err = e
			got = append(got, "ERROR"+line)
			continue
		}
		got = append(got, line)
	}
	return got, err
}
