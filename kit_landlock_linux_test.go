package spawn

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// say returns a word for an error.
func say(err error) string {
	switch {
	case err == nil:
		return "good"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "refused"
	}
	return err.Error()
}

// needLandlock skips where the kernel does not have this version.
func needLandlock(t testing.TB, version int) {
	t.Helper()
	if have := landlockVersion(); have < version {
		t.Skipf("needs version %d of Landlock, and the kernel has %d", version, have)
	}
}

func outputOf(t testing.TB, c *Command) string {
	t.Helper()
	out, err := c.Output(context.Background())
	require.NoError(t, err)
	return string(out)
}
