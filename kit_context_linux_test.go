package spawn

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// calls are the ways to run a command to its end, each with what it returned of the standard output.
var calls = map[string]func(c *Command, ctx context.Context) (out string, err error){
	"Run": func(c *Command, ctx context.Context) (s string, err error) {
		err = c.SetOutputBuffer(&s).Run(ctx)
		return s, err
	},
	"Run with a writer": func(c *Command, ctx context.Context) (string, error) {
		var b bytes.Buffer
		err := c.SetStdout(&b).Run(ctx)
		return b.String(), err
	},
	"RunStatus": func(c *Command, ctx context.Context) (s string, err error) {
		status, err := c.SetOutputBuffer(&s).RunStatus(ctx)
		if err == nil && !status.Success() {
			err = &ExitError{Status: status} // for tests that are the same for all
		}
		return s, err
	},
	"Output": func(c *Command, ctx context.Context) (string, error) {
		out, err := c.Output(ctx)
		return string(out), err
	},
	"CombinedOutput": func(c *Command, ctx context.Context) (string, error) {
		out, err := c.CombinedOutput(ctx)
		return string(out), err
	},
	"Lines": func(c *Command, ctx context.Context) (out string, err error) {
		for line, e := range c.Lines(ctx) {
			if e == nil {
				out += line + "\n"
			}
			err = e
		}
		return out, err
	},
	"Records": func(c *Command, ctx context.Context) (out string, err error) {
		for record, e := range c.Records(ctx, '\n') {
			if e == nil {
				out += record + "\n"
			}
			err = e
		}
		return out, err
	},
	"RunRegex": func(c *Command, ctx context.Context) (out string, err error) {
		err = c.RunRegex(ctx, anyLine, func(groups []string) error {
			out += groups[0] + "\n"
			return nil
		})
		return out, err
	},
	"Start and Wait": func(c *Command, ctx context.Context) (s string, err error) {
		p, err := c.SetOutputBuffer(&s).Start(ctx)
		if err != nil {
			return s, err
		}
		err = p.Wait()
		return s, err
	},
}

// forEachCall runs a test for every way to run a command.
func forEachCall(t *testing.T, f func(t *testing.T, call func(*Command, context.Context) (string, error))) {
	for name, call := range calls {
		if testing.Short() && name != "Run" && name != "Lines" && name != "Start and Wait" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			f(t, call)
		})
	}
}

// during makes a call, and something happen while it lasts.
func during(call func(*Command, context.Context) (string, error), c *Command, ctx context.Context, event func()) (string, error) {
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

// passPipe passes the end of a new pipe that the program writes to, for this run only, and returns the other end.
func passPipe(t testing.TB, c *Command, fd int) *os.File {
	r, w := newPipe(t)
	c.PassFDAs(w, fd, CloseParent)
	return r
}

func requireAnySignal(t testing.TB, err error) unix.Signal {
	t.Helper()
	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.NotZero(t, exit.Status.Signal, "%v", err)
	return exit.Status.Signal
}

// grandchild is a script that leaves a process behind, which keeps the standard streams: once there is a line to read from
// descriptor 3 it writes to both outputs, and says on descriptor 4 that it still lives.
const grandchild = `echo started >&4; { read x <&3; echo late; echo late >&2; echo alive >&4; } & echo early; exit 3`
