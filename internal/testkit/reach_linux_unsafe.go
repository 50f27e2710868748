//go:build linux

package testkit

import (
	"sync/atomic"
	"testing"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/run"
	"github.com/virspawn/spawn/internal/tree"
)

// Call returns a running call of the command, by a cloned child unless it has
// another executor.
func Call(c *spawn.Command) run.Call {
	call := run.Call{Command: Wanted(c), Streams: Wanted(c).Streams, Options: *field[plan.Options](c, "options"), Method: "Run"}
	if call.Options.Executor == plan.Automatic {
		call.Options.Executor = plan.Stub
		if plan.SharesMemory(call.Command) {
			call.Options.Executor = plan.Direct
		}
	}
	return call
}

// Planned plans a run of the command, by a cloned child unless it has another
// executor. The caller ends it with Release.
func Planned(c *spawn.Command, m plan.Mode) (*plan.Plan, error) {
	call := Call(c)
	if m == plan.Watched && call.Options.Executor != plan.Direct {
		m = plan.Piped
	}
	pl := new(plan.Plan)
	return pl, pl.Make(call.Command, call.Streams, m, call.Options)
}

// Tree returns what finds the descendants of a process with KillTree. It is the
// library's, and under the process's lock.
func Tree(p *spawn.Process) *tree.Tree {
	return *field[*tree.Tree](Running(p).Target, "descendants")
}

//go:linkname killWait github.com/virspawn/spawn/internal/process.killWait
var killWait time.Duration

// GiveUpSoon makes a program that SIGKILL does not end one that is given up
// soon, until the test ends.
func GiveUpSoon(t testing.TB) { giveUpAfter(t, 10*time.Millisecond) }

// GiveUpNever has such a program waited for, until the test ends.
func GiveUpNever(t testing.TB) { giveUpAfter(t, time.Hour) }

func giveUpAfter(t testing.TB, d time.Duration) {
	before := killWait
	killWait = d
	t.Cleanup(func() { killWait = before })
}

//go:linkname blockedWaits github.com/virspawn/spawn/internal/run.blockedWaits
var blockedWaits atomic.Int32

// takeAllWaits makes all waits for children parked ones, until release
// is called.
func takeAllWaits() (release func()) {
	const many = 1 << 20
	blockedWaits.Add(many)
	return func() { blockedWaits.Add(-many) }
}

// WaitsThatBlock returns how many waits for children block a thread.
func WaitsThatBlock() int { return int(blockedWaits.Load()) }
