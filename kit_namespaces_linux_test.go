package spawn

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// allKinds has the name of each kind in /proc/PID/ns.
var allKinds = map[Namespace]string{
	TimeNamespace: "time", MountNamespace: "mnt", CgroupNamespace: "cgroup", UTSNamespace: "uts", IPCNamespace: "ipc",
	UserNamespace: "user", PIDNamespace: "pid", NetworkNamespace: "net",
}

// needUserNamespaces skips where an ordinary user may make none.
func needUserNamespaces(t testing.TB) {
	t.Helper()
	if !hasUserNamespaces() {
		t.Skip("needs user namespaces")
	}
}

func hasUserNamespaces() bool {
	c := exec.Command("/bin/true")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	return c.Run() == nil
}

func readlink(t testing.TB, path string) string {
	t.Helper()
	s, err := os.Readlink(path)
	require.NoError(t, err)
	return s
}

// waitingIn starts cat, which waits for the end of its input, and returns it with what to call at its end.
func waitingIn(t testing.TB, c *Command) *Process {
	t.Helper()
	p, err := c.PipeStdin().Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.Stdin().Close())
		require.NoError(t, p.Wait())
	})
	return p
}
