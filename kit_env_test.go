package spawn

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func unsetenv(t testing.TB, name string) {
	t.Setenv(name, "") // puts it back in the end
	require.NoError(t, os.Unsetenv(name))
}
