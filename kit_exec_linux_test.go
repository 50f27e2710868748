package spawn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// publicDir returns a new directory that other users may enter.
func publicDir(t testing.TB) string {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

// statusField returns a field of proc_pid_status(5).
func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if field, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(field)
		}
	}
	return ""
}
