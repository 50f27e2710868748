package testkit

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn/internal/plan"
	"golang.org/x/sys/unix"
)

// NeedsClone skips a test that is about the child which this process clones,
// where only helpers can run programs.
func NeedsClone(t testing.TB) {
	t.Helper()
	if !plan.CanClone() {
		t.Skip("needs a child that is cloned directly, which there is none of on " + runtime.GOARCH)
	}
}

// NeedsLandlock skips where the kernel does not have this version.
func NeedsLandlock(t testing.TB, version int) {
	t.Helper()
	if have := plan.LandlockVersion(); have < version {
		t.Skipf("needs version %d of Landlock, and the kernel has %d", version, have)
	}
}

// NeedsUserNamespaces skips where an ordinary user may make none.
func NeedsUserNamespaces(t testing.TB) {
	t.Helper()
	if !HasUserNamespaces() {
		t.Skip("needs user namespaces")
	}
}

// HasUserNamespaces reports whether this process can make user namespaces.
func HasUserNamespaces() bool {
	c := exec.Command("/bin/true")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	return c.Run() == nil
}

// HasTerminals reports whether this machine has pseudo-terminals.
func HasTerminals() bool {
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// NeedsTerminals skips where this machine has no pseudo-terminals.
func NeedsTerminals(t testing.TB) {
	t.Helper()
	if !HasTerminals() {
		t.Skip("needs terminals")
	}
}

// Needs skips a test when err is one of those which say that this machine does
// not have what it needs. It fails with any other.
func Needs(t testing.TB, what string, err error, missing ...error) {
	t.Helper()
	for _, m := range missing {
		if errors.Is(err, m) {
			t.Skipf("needs %s: %v", what, err)
		}
	}
	require.NoError(t, err)
}

// NeedsRoot skips a test of any other user than root.
func NeedsRoot(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: " + why)
	}
}

// NeedsOrdinaryUser skips a test of root.
func NeedsOrdinaryUser(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user: " + why)
	}
}

// NeedsProgram returns the path of a program, and skips where it is
// not installed.
func NeedsProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
	return path
}

// NeedsLSM skips where the kernel does not run this security module: selinux,
// apparmor or smack. The machines of .ci/vm run the first or the second.
func NeedsLSM(t testing.TB, name string) {
	t.Helper()
	if !HasLSM(name) {
		t.Skipf("needs a kernel that runs %s, as one of .ci/vm does", name)
	}
}

// HasLSM reports whether the kernel runs this security module.
func HasLSM(name string) bool {
	holds := func(path, text string) bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(b), text)
	}
	switch name {
	case "selinux":
		return selinux.GetEnabled()
	case "apparmor":
		return holds("/sys/module/apparmor/parameters/enabled", "Y")
	case "smack":
		return holds("/proc/filesystems", "\tsmackfs\n")
	}
	panic("testkit: no security module " + name)
}
