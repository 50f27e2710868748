package spawn

import (
	"context"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/gocapability/capability"
)

// missing is a program that is on no machine: a dry run does without.
const missing = "no-such-program"

// dry returns a context in which fn stands in for programs.
func dry(fn DryRunFunc) context.Context { return WithDryRun(context.Background(), fn) }

// says returns a function whose program writes and exits.
func says(stdout, stderr string, code int) DryRunFunc {
	return func(c *DryRunCall) { c.Stdout, c.Stderr, c.ExitCode = stdout, stderr, code }
}

// tempFile returns an open file with a content, to be read from its start.
func tempFile(t *testing.T, content string) *os.File {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// firstError ranges over records up to an error.
func firstError(records iter.Seq2[string, error]) error {
	for _, err := range records {
		if err != nil {
			return err
		}
	}
	return nil
}

// ways are the calls that run a command.
var ways = map[string]func(context.Context, *Command) error{
	"Run":            func(ctx context.Context, c *Command) error { return c.Run(ctx) },
	"RunStatus":      func(ctx context.Context, c *Command) error { _, err := c.RunStatus(ctx); return err },
	"Output":         func(ctx context.Context, c *Command) error { _, err := c.Output(ctx); return err },
	"CombinedOutput": func(ctx context.Context, c *Command) error { _, err := c.CombinedOutput(ctx); return err },
	"Lines":          func(ctx context.Context, c *Command) error { return firstError(c.Lines(ctx)) },
	"Records":        func(ctx context.Context, c *Command) error { return firstError(c.Records(ctx, 0)) },
	"RunRegex": func(ctx context.Context, c *Command) error {
		return c.RunRegex(ctx, anyLine, func([]string) error { return nil })
	},
	"Start": func(ctx context.Context, c *Command) error {
		p, err := c.Start(ctx)
		if err == nil {
			<-p.Done()
			err = &notAStart{p.Wait()}
		}
		return err
	},
}

// notAStart marks an error of Wait.
type notAStart struct{ err error }

func (e *notAStart) Error() string { return e.err.Error() }

// badWholes are commands that are refused whatever the machine, when they are to run.
func badWholes(t *testing.T) map[string]func() *Command {
	closed := tempFile(t, "")
	closed.Close()
	return map[string]func() *Command{
		"SetChroot":       func() *Command { return New(missing).SetChroot("/x") },
		"SetUIDMap":       func() *Command { return New(missing).SetUIDMap(IDMap{0, 1000, 1}) },
		"SetAmbientCaps":  func() *Command { return New(missing).ClearCaps().SetAmbientCaps(capability.CAP_NET_RAW) },
		"SetStdin closed": func() *Command { return New(missing).SetStdin(closed) },
		"SetStdout":       func() *Command { return New(missing).SetStdout(closed) },
		"SetStderr":       func() *Command { return New(missing).SetStderr(closed) },
		"PassFDAs":        func() *Command { return New(missing).PassFDAs(closed, 5) },
	}
}

// anyLine matches every line.
var anyLine = regexp.MustCompile(".*")
