package testkit

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Freezer is a cgroup of version 1 that freezes processes: even SIGKILL waits
// until they are thawed.
type Freezer string

// NewFreezer makes one.
func NewFreezer(t testing.TB) Freezer {
	t.Helper()
	NeedsRoot(t, "to make a cgroup")
	for line := range strings.Lines(ReadFile(t, "/proc/self/mountinfo")) {
		before, after, _ := strings.Cut(line, " - ")
		f := strings.Fields(after)
		if f[0] != "cgroup" || !strings.Contains(","+f[2]+",", ",freezer,") {
			continue
		}
		dir, err := os.MkdirTemp(strings.Fields(before)[4], "spawn-test-")
		Needs(t, "a cgroup of the freezer to write to", err, fs.ErrPermission, unix.EROFS)
		t.Cleanup(func() {
			_ = Freezer(dir).Thaw()
			Eventually(t, "the cgroup is empty", func() bool { return os.Remove(dir) == nil })
		})
		return Freezer(dir)
	}
	t.Skip("needs the freezer of cgroup v1")
	return ""
}

// Freeze freezes a process, and returns when it is frozen.
func (f Freezer) Freeze(pid int) error {
	err := os.WriteFile(string(f)+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0)
	if err == nil {
		err = f.set("FROZEN")
	}
	for deadline := time.Now().Add(30 * time.Second); err == nil; {
		var state []byte
		state, err = os.ReadFile(string(f) + "/freezer.state")
		switch {
		case string(state) == "FROZEN\n":
			return nil
		case err == nil && time.Now().After(deadline):
			err = errors.New("the process does not freeze")
		}
	}
	return err
}

// Thaw lets all go on.
func (f Freezer) Thaw() error { return f.set("THAWED") }

func (f Freezer) set(state string) error {
	return os.WriteFile(string(f)+"/freezer.state", []byte(state), 0)
}
