package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// LeftBehind looks for what a start that failed may have left.
func LeftBehind(open []int, warm bool) error {
	now := OpenNumbers()
	if warm && !slices.Equal(now, open) || len(now) > len(open)+2 {
		// Go's poller may have two more.
		return fmt.Errorf("open descriptors: %v, before: %v", now, open)
	}
	if n := program.InUse(); n != 0 {
		return fmt.Errorf("%d programs in use", n)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil); err != unix.ECHILD {
		return fmt.Errorf("a child is left: %w", err)
	}
	return nil
}

// WaitForNoChild waits until the library has waited for the only child.
func WaitForNoChild(t testing.TB) {
	t.Helper()
	Eventually(t, "no child left", func() bool {
		var info unix.Siginfo
		return unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil) == unix.ECHILD
	})
}

// CheckLeaks makes the test fail when it leaves behind a descriptor,
// a goroutine, a child or a program's memory. Tests that use it do not run
// in parallel.
func CheckLeaks(t *testing.T) {
	t.Helper()
	require.NoError(t, warmUp())
	settle(t)
	fds, goroutines, programs, mappings := OpenFDs(t), runtime.NumGoroutine(), program.InUse(), sharedMappings(t)
	t.Cleanup(func() {
		Eventually(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= goroutines })
		Eventually(t, "no program left", func() bool { return program.InUse() == programs })
		Eventually(t, "no shared memory left", func() bool { return sharedMappings(t) <= mappings })
		require.Equal(t, fds, OpenFDs(t), "descriptors")
		RequireNoChild(t)
	})
}

// warmUp makes what is there once and for all, such as the reserved numbers,
// Go's poller and the thread that never ends.
var warmUp = sync.OnceValue(func() error {
	_ = selinux.GetEnabled() // its library keeps /proc open
	if err := spawn.New("/bin/true").SetParentDeathSignal(unix.SIGKILL).Run(context.Background()); err != nil {
		return err
	}
	p, err := spawn.New("/bin/cat").PipeStdin().Start(context.Background())
	if err != nil {
		return err
	}
	return errors.Join(p.Stdin().Close(), p.Wait())
})

// sharedMappings returns how often this process has mapped what it shares with
// children that do not share all of its memory. That is the programs of some
// (MAP_SHARED|MAP_ANONYMOUS) and the reports of helpers.
func sharedMappings(t testing.TB) (n int) {
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "/dev/zero (deleted)") || strings.Contains(line, "/memfd:spawn-") {
			n++
		}
	}
	return n
}

// settle waits until what earlier tests have left to the garbage collector
// is gone.
func settle(t *testing.T) {
	runtime.GC()
	Eventually(t, "all programs freed", func() bool { return program.InUse() == 0 })
}

// OpenFDs returns this process's descriptors and what they refer to.
func OpenFDs(t testing.TB) []string {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	var fds []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err == nil { // not the one of ReadDir itself
			fds = append(fds, e.Name()+" "+target)
		}
	}
	slices.Sort(fds)
	return fds
}

// RequireNoChild fails when this process has a child, a zombie for example.
func RequireNoChild(t testing.TB) {
	t.Helper()
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil)
	require.ErrorIs(t, err, unix.ECHILD, "a child is left")
}
