//go:build linux

package run_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
)

func init() {
	testkit.Helpers["oom-large"] = largeProcess
	testkit.Helpers["oom-hog"] = hog
}

// Where a cgroup is at its limit, the kernel kills whoever has the most memory
// of those in it, and all who share that memory. A child that is born there has
// little, and shares it with nobody.
func TestAttackByACgroupAtItsMemoryLimit(t *testing.T) {
	dir := testkit.NewCgroup(t)
	// What the children of its parent get.
	_ = os.WriteFile(filepath.Join(filepath.Dir(dir), "cgroup.subtree_control"), []byte("+memory"), 0)
	limit := filepath.Join(dir, "memory.max")
	if _, err := os.Stat(limit); err != nil {
		t.Skip("needs the memory controller of cgroup v2: ", err)
	}
	require.NoError(t, os.WriteFile(limit, []byte("40M"), 0))
	// not without swap
	_ = os.WriteFile(filepath.Join(dir, "memory.swap.max"), []byte("0"), 0)
	rounds := 500
	switch {
	case os.Getenv("SPAWN_TEST_LONG") != "":
		rounds = 10_000
	case testing.Short():
		rounds = 40
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	out, err := testkit.HelperCommand(t, "oom-large", testkit.TinyProgram(t), dir, fmt.Sprint(rounds)).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "good\n", string(out))
	events := testkit.ReadFile(t, filepath.Join(dir, "memory.events"))
	require.NotContains(t, events, "oom_kill 0", "the attack no longer works")
}

// large is how much memory a process has that starts others.
const large = 300 << 20

// largeProcess starts programs in a cgroup, beside one that takes what
// there is.
func largeProcess(args []string) int {
	program, dir := args[0], args[1]
	memory := make([]byte, large)
	touch(memory)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	hogs := make(chan struct{})
	var full atomic.Bool
	go func() {
		defer close(hogs)
		for ctx.Err() == nil {
			_ = spawn.New("/proc/self/exe", testkit.HelperPrefix+"oom-hog").SetCgroup(dir).Run(ctx)
			full.Store(true) // the first has come to the limit
		}
	}()
	for !full.Load() {
		time.Sleep(time.Millisecond)
	}
	var rounds int
	if _, err := fmt.Sscan(args[2], &rounds); err != nil {
		return testkit.Fail(err)
	}
	started := 0
	for i := range rounds {
		c := spawn.New(program).SetCgroup(dir)
		switch i % 4 {
		case 1:
			c.SetKillMode(spawn.KillTree)
		case 2:
			c.SetWorkingDirectory("/").SetNice(1)
		case 3:
			c.RequireHandshake()
		}
		// It may be killed before its program, and after.
		err := startOf(c)()
		switch {
		case err == nil:
			started++
		case !strings.Contains(err.Error(), "killed") && !strings.Contains(err.Error(), "ended before"):
			return testkit.Fail(fmt.Errorf("round %d: %w", i, err))
		}
	}
	cancel()
	<-hogs
	if started == 0 {
		return testkit.Fail(fmt.Errorf("none of %d was started", rounds))
	}
	touch(memory)
	fmt.Println("good")
	return 0
}

// hog takes memory until it is killed.
func hog([]string) int {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		touch(b)
		all = append(all, b)
		if len(all) > 4096 {
			return testkit.Fail(fmt.Errorf("there is no limit"))
		}
	}
}

// touch has every page of b there.
func touch(b []byte) {
	for i := 0; i < len(b); i += 4096 {
		b[i]++
	}
}
