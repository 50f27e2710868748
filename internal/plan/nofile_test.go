//go:build linux

package plan_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["nofile"] = printNofile
}

// printNofile prints the soft and the hard limit of descriptors that it has and
// that a child of its gets. With arguments, it sets its own limits first.
func printNofile(args []string) int {
	if len(args) > 0 {
		var l syscall.Rlimit
		if _, err := fmt.Sscan(strings.Join(args, " "), &l.Cur, &l.Max); err != nil {
			return 2
		}
		if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			return 3
		}
	}
	var own syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		return 4
	}
	c := spawn.New("/bin/sh", "-c", "ulimit -Sn; ulimit -Hn")
	if os.Getenv("SPAWN_MAX_FILES") != "" {
		c.SetMaxFiles(100)
	}
	out, err := c.Output(context.Background())
	if err != nil {
		return 5
	}
	fmt.Println(own.Cur, own.Max, strings.Join(strings.Fields(string(out)), " "))
	return 0
}

// nofileLimits starts a process of Go with a soft limit below the hard one. It
// returns the process's limits and its child's, soft and hard.
func nofileLimits(t *testing.T, soft uint64, set ...uint64) (own, child [2]uint64) {
	var args []string
	for _, n := range set {
		args = append(args, fmt.Sprint(n))
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := testkit.HelperCommand(t, "nofile", args...).SetRlimit(unix.RLIMIT_NOFILE, soft, hardNofile(t)).Output(context.Background())
	require.NoError(t, err)
	_, err = fmt.Sscan(string(out), &own[0], &own[1], &child[0], &child[1])
	require.NoError(t, err)
	return own, child
}

func hardNofile(t *testing.T) uint64 {
	var l unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &l))
	if l.Max <= 2048 {
		t.Skipf("the hard limit of open descriptors is %d; the test needs more than 2048", l.Max)
	}
	return l.Max
}

func TestAChildGetsTheSoftLimitOfDescriptorsThatThisProcessGot(t *testing.T) {
	testkit.CheckLeaks(t)
	hard := hardNofile(t)
	own, child := nofileLimits(t, 1024)
	require.Greater(t, own[0], uint64(1024), "the Go runtime raises it")
	require.Equal(t, [2]uint64{1024, hard}, child)
}

func TestALimitOfDescriptorsThatTheProgramHasSetIsPassedOn(t *testing.T) {
	testkit.CheckLeaks(t)
	hard := hardNofile(t)
	for _, set := range [][2]uint64{
		{512, hard},  // below the original one
		{2000, hard}, // above it
		{1024, hard}, // the same
		{512, 512},   // with the hard one
		{2000, 2000}, // above the original one, with the hard one
		{hard, hard}, // nearly what Go sets, which is one less
	} {
		own, child := nofileLimits(t, 1024, set[0], set[1])
		require.Equal(t, set, own)
		require.Equal(t, set, child)
	}
}

func TestSetMaxFilesComesBeforeTheLimitThatThisProcessGot(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("SPAWN_MAX_FILES", "1")
	own, child := nofileLimits(t, 1024)
	require.Greater(t, own[0], uint64(1024), "the Go runtime raises it")
	require.Equal(t, [2]uint64{100, 100}, child)
}
