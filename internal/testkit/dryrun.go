package testkit

import (
	"bytes"
	"context"
	"encoding/binary"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/gocapability/capability"
	"github.com/virspawn/spawn"
)

// Missing is a program that is on no machine: a dry run does without.
const Missing = "no-such-program"

// Dry returns a context in which fn stands in for programs.
func Dry(fn spawn.DryRunFunc) context.Context { return spawn.WithDryRun(context.Background(), fn) }

// Says returns a function whose program writes and exits.
func Says(stdout, stderr string, code int) spawn.DryRunFunc {
	return func(c *spawn.DryRunCall) { c.Stdout, c.Stderr, c.ExitCode = stdout, stderr, code }
}

// TempFile returns an open file with a content, to be read from its start.
func TempFile(t *testing.T, content string) *os.File {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// FirstError ranges over records up to an error.
func FirstError(records iter.Seq2[string, error]) error {
	for _, err := range records {
		if err != nil {
			return err
		}
	}
	return nil
}

// Ways are the calls that run a command.
var Ways = map[string]func(context.Context, *spawn.Command) error{
	"Run":            func(ctx context.Context, c *spawn.Command) error { return c.Run(ctx) },
	"RunStatus":      func(ctx context.Context, c *spawn.Command) error { _, err := c.RunStatus(ctx); return err },
	"Output":         func(ctx context.Context, c *spawn.Command) error { _, err := c.Output(ctx); return err },
	"CombinedOutput": func(ctx context.Context, c *spawn.Command) error { _, err := c.CombinedOutput(ctx); return err },
	"Lines":          func(ctx context.Context, c *spawn.Command) error { return FirstError(c.Lines(ctx)) },
	"Records":        func(ctx context.Context, c *spawn.Command) error { return FirstError(c.Records(ctx, 0)) },
	"RunRegex": func(ctx context.Context, c *spawn.Command) error {
		return c.RunRegex(ctx, AnyLine, func([]string) error { return nil })
	},
	"Start": func(ctx context.Context, c *spawn.Command) error {
		p, err := c.Start(ctx)
		if err == nil {
			<-p.Done()
			err = &NotAStart{p.Wait()}
		}
		return err
	},
}

// NotAStart marks an error of Wait.
type NotAStart struct{ Err error }

// Error returns the text of Err, the error of Wait.
func (e *NotAStart) Error() string { return e.Err.Error() }

// BadWholes are commands that are refused whatever the machine, when they are
// to run.
func BadWholes(t *testing.T) map[string]func() *spawn.Command {
	closed := TempFile(t, "")
	closed.Close()
	return map[string]func() *spawn.Command{
		"SetChroot": func() *spawn.Command { return spawn.New(Missing).SetChroot("/x") },
		"SetUIDMap": func() *spawn.Command {
			return spawn.New(Missing).SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: 1000, Size: 1})
		},
		"SetAmbientCaps":  func() *spawn.Command { return spawn.New(Missing).ClearCaps().SetAmbientCaps(capability.CAP_NET_RAW) },
		"SetStdin closed": func() *spawn.Command { return spawn.New(Missing).SetStdin(closed) },
		"SetStdout":       func() *spawn.Command { return spawn.New(Missing).SetStdout(closed) },
		"SetStderr":       func() *spawn.Command { return spawn.New(Missing).SetStderr(closed) },
		"PassFDAs":        func() *spawn.Command { return spawn.New(Missing).PassFDAs(closed, 5) },
	}
}

// AnyLine matches every line.
var AnyLine = regexp.MustCompile(".*")

// Unsetenv removes a variable of this process until the test ends.
func Unsetenv(t testing.TB, name string) {
	t.Setenv(name, "") // puts it back in the end
	require.NoError(t, os.Unsetenv(name))
}

// counters is 8 MiB of a counter, 8 bytes each.
var counters = sync.OnceValue(func() []byte {
	b := make([]byte, 8<<20)
	for i := range len(b) / 8 {
		binary.BigEndian.PutUint64(b[i*8:], uint64(i)*0x0101_0101)
	}
	return b
})

// Pattern returns n bytes in which any shift, loss or repetition shows. They
// must not be changed.
func Pattern(n int) []byte {
	b := counters()
	if n > len(b) {
		b = bytes.Repeat(b, n/len(b)+1)
	}
	return b[:n]
}
