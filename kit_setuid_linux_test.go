package spawn

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// copySelf copies this test binary, as root's, to where every user can run it and a setuid bit counts.
func copySelf(t *testing.T) string {
	dir, err := os.MkdirTemp("", "spawn")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	var fs unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &fs))
	if fs.Flags&unix.ST_NOSUID != 0 {
		t.Skipf("%s is mounted nosuid", dir)
	}
	if err := New("/bin/true").SetUID(nobody).SetGID(nobody).SetWorkingDirectory(dir).Run(context.Background()); err != nil {
		t.Skipf("other users cannot enter %s: %v", dir, err)
	}
	from, err := os.Open(self(t))
	require.NoError(t, err)
	defer from.Close()
	to, err := os.Create(filepath.Join(dir, "program"))
	require.NoError(t, err)
	defer to.Close()
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	return to.Name()
}
