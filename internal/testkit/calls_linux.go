package testkit

import (
	"bytes"
	"context"
	"testing"

	"github.com/virspawn/spawn"
)

// Calls are the ways to run a command to its end, each with what it returned of
// the standard output.
var Calls = map[string]func(c *spawn.Command, ctx context.Context) (out string, err error){
	"Run": func(c *spawn.Command, ctx context.Context) (s string, err error) {
		err = c.SetOutputBuffer(&s).Run(ctx)
		return s, err
	},
	"Run with a writer": func(c *spawn.Command, ctx context.Context) (string, error) {
		var b bytes.Buffer
		err := c.SetStdout(&b).Run(ctx)
		return b.String(), err
	},
	"RunStatus": func(c *spawn.Command, ctx context.Context) (s string, err error) {
		status, err := c.SetOutputBuffer(&s).RunStatus(ctx)
		if err == nil && !status.Success() {
			// The tests are the same for all ways.
			err = &spawn.ExitError{Status: status}
		}
		return s, err
	},
	"Output": func(c *spawn.Command, ctx context.Context) (string, error) {
		out, err := c.Output(ctx)
		return string(out), err
	},
	"CombinedOutput": func(c *spawn.Command, ctx context.Context) (string, error) {
		out, err := c.CombinedOutput(ctx)
		return string(out), err
	},
	"Lines": func(c *spawn.Command, ctx context.Context) (out string, err error) {
		for line, e := range c.Lines(ctx) {
			if e == nil {
				out += line + "\n"
			}
			err = e
		}
		return out, err
	},
	"Records": func(c *spawn.Command, ctx context.Context) (out string, err error) {
		for record, e := range c.Records(ctx, '\n') {
			if e == nil {
				out += record + "\n"
			}
			err = e
		}
		return out, err
	},
	"RunRegex": func(c *spawn.Command, ctx context.Context) (out string, err error) {
		err = c.RunRegex(ctx, AnyLine, func(groups []string) error {
			out += groups[0] + "\n"
			return nil
		})
		return out, err
	},
	"Start and Wait": func(c *spawn.Command, ctx context.Context) (s string, err error) {
		p, err := c.SetOutputBuffer(&s).Start(ctx)
		if err != nil {
			return s, err
		}
		err = p.Wait()
		return s, err
	},
}

// ForEachCall runs a test for every way to run a command.
func ForEachCall(t *testing.T, f func(t *testing.T, call func(*spawn.Command, context.Context) (string, error))) {
	forCalls(t, !testing.Short(), f)
}

func forCalls(t *testing.T, all bool, f func(t *testing.T, call func(*spawn.Command, context.Context) (string, error))) {
	for name, call := range Calls {
		if !all && !WaitsInItsOwnWay(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			CheckLeaks(t)
			f(t, call)
		})
	}
}

// WaitsInItsOwnWay chooses three of Calls, one for each way of waiting.
func WaitsInItsOwnWay(call string) bool {
	return call == "Run" || call == "Lines" || call == "Start and Wait"
}

// ForSlowCalls is ForEachCall for what takes time in every call, such as the
// library's own waits. It tries three of the ways unless SPAWN_TEST_LONG is in
// the environment.
func ForSlowCalls(t *testing.T, f func(t *testing.T, call func(*spawn.Command, context.Context) (string, error))) {
	forCalls(t, Rounds(2, 1) == 2, f)
}

// During makes a call, and something happen while it lasts.
func During(call func(*spawn.Command, context.Context) (string, error), c *spawn.Command, ctx context.Context, event func()) (string, error) {
	type result struct {
		out string
		err error
	}
	results := make(chan result, 1)
	go func() {
		out, err := call(c, ctx)
		results <- result{out, err}
	}()
	event()
	r := <-results
	return r.out, r.err
}

// ForEachHandshake runs a test for every way in which a child with a handshake
// is made.
func ForEachHandshake(t *testing.T, f func(t *testing.T, with func(*spawn.Command) *spawn.Command)) {
	for name, with := range handshakeKinds() {
		t.Run(name, func(t *testing.T) {
			CheckLeaks(t)
			f(t, with)
		})
	}
}

// InBothWaits runs a test twice: waits block a thread, and waits are
// all parked.
func InBothWaits(t *testing.T, f func(t *testing.T)) {
	t.Run("blocked", f)
	t.Run("parked", func(t *testing.T) {
		t.Cleanup(takeAllWaits())
		f(t)
	})
}
