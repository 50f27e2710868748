package spawn_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
)

// forged would be a second line of a log, something that a terminal obeys, text
// that is read in another direction, and more.
const forged = "upload\r\n2026/11/28 08:00:00 admin logged in\x1b]0;owned\a\u009b2J\x7f\u202e\u2066\u2028\u2029\u0085\xff\xc3\t"

// requireShown checks that a text is one line of printable characters, and not
// without end.
func requireShown(t testing.TB, what, text string) {
	t.Helper()
	require.True(t, utf8.ValidString(text), "%s: %q", what, text)
	for _, r := range text {
		require.True(t, strconv.IsPrint(r), "%s: %q in %q", what, r, text)
	}
	require.Less(t, len(text), 20<<10, what)
}

// attrsHandler keeps the texts of all attributes.
type attrsHandler struct {
	slog.Handler
	texts map[string]string
}

func (h *attrsHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *attrsHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		h.texts[r.Message+": "+a.Key] = a.Value.String()
		return true
	})
	return nil
}

// TestWhatIsShownIsOneLineThatATerminalCanBeShown: whatever others have put
// into arguments, paths, names, messages and output.
func TestWhatIsShownIsOneLineThatATerminalCanBeShown(t *testing.T) {
	nullFile()
	testkit.CheckLeaks(t)
	long := strings.Repeat(forged, 1000) // no longer than an argument can be
	path := t.TempDir() + "/" + forged
	require.NoError(t, os.MkdirAll(path, 0o777))
	script := path + "/run"
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nprintf '%s' \"$1\" >&2; exit 1\n"), 0o755))
	for _, evil := range []string{forged, long} {
		cause, stop := context.WithCancelCause(context.Background())
		stop(errors.New(evil))
		for name, c := range map[string]*spawn.Command{
			"ended":              spawn.New("/bin/false", evil),
			"a path":             spawn.New(script, evil),
			"standard error":     spawn.New("/bin/sh", "-c", `printf '%s' "$1" >&2; exit 1`, "sh", strings.ReplaceAll(evil, "\n", "")),
			"not found":          spawn.New("/nonexistent/" + evil),
			"not found in PATH":  spawn.New("nonexistent" + evil),
			"a NUL":              spawn.New("/bin/true", evil+"\x00"),
			"a directory":        spawn.New("/bin/true").SetWorkingDirectory("/nonexistent/" + evil),
			"a user":             spawn.New("/bin/true").SetUser(evil),
			"a variable":         spawn.New("/bin/true").AddEnv(evil+"=", evil),
			"a pid file":         spawn.New("/bin/true").SetPidFile("/nonexistent/" + evil),
			"a root directory":   spawn.New("x" + evil).SetChroot("/"),
			"a cgroup":           spawn.New("/bin/true").SetCgroup("/tmp/" + evil),
			"a rule of Landlock": spawn.New("/bin/true").SetLandlock(spawn.Landlock{Version: 1, Paths: []spawn.LandlockPath{{Path: "/nonexistent/" + evil, Rights: spawn.LandlockReadFile}}}),
			"a label":            spawn.New("/bin/true").SetSmackLabel(evil),
			"a socket's name":    spawn.New("/bin/true").AddListenFD(nullFile(), evil),
			"a hook":             spawn.New("/bin/true").SetPreExecHook(testkit.HookFails, evil),
			"a hook that panics": spawn.New("/bin/true").SetPreExecHook(testkit.HookPanics, evil),
			"a reader":           spawn.New("/bin/cat").SetStdin(sayingReader{errors.New(evil)}),
			"a cause":            spawn.New("/bin/true"),
			"an argument 0":      spawn.New("/bin/false").SetArgv0(evil),
		} {
			h := &attrsHandler{texts: map[string]string{}}
			ctx := context.Background()
			if name == "a cause" {
				ctx = cause
			}
			err := c.SetLogger(slog.New(h)).Run(ctx)
			require.Error(t, err, name)
			requireShown(t, name, err.Error())
			requireShown(t, name, fmt.Sprintf("%v %s", err, err))
			for key, text := range h.texts {
				requireShown(t, name+", "+key, text)
			}
			if _, isCall := err.(*spawn.CallError); !isCall {
				require.NotEmpty(t, h.texts, name)
			}
			var start *spawn.StartError
			if name == "a hook" && errors.As(err, &start) {
				requireShown(t, name, start.Err.Error())
			}
			if len(evil) == len(forged) {
				requireShown(t, name, c.String())
			}
		}
		p, err := spawn.New("/bin/cat", evil).PipeStdin().Start(context.Background())
		require.NoError(t, err)
		requireShown(t, "a process", p.String())
		require.NoError(t, p.Stdin().Close())
		requireShown(t, "Wait", p.Wait().Error())
	}
}

type sayingReader struct{ err error }

func (r sayingReader) Read([]byte) (int, error) { return 0, r.err }

func TestWhatAPolicyOrADryRunSaysIsShownOnOneLine(t *testing.T) {
	restore := spawn.SetPolicy(func(*spawn.Command) error { return errors.New(forged) })
	requireShown(t, "a policy", spawn.New("/bin/true").Run(context.Background()).Error())
	restore()
	for name, f := range map[string]spawn.DryRunFunc{
		"an error": func(call *spawn.DryRunCall) { call.Err = errors.New(forged) },
		"a StartError": func(call *spawn.DryRunCall) {
			call.Err = &spawn.StartError{Op: forged, Path: forged, Err: errors.New(forged)}
		},
		"standard error": func(call *spawn.DryRunCall) { call.Stderr, call.ExitCode = strings.ReplaceAll(forged, "\n", ""), 1 },
	} {
		err := spawn.New("/bin/"+forged, forged).Run(spawn.WithDryRun(context.Background(), f))
		require.Error(t, err)
		requireShown(t, name, err.Error())
	}
	for _, err := range []error{
		&spawn.ExitError{Command: forged, Stderr: []byte("\x1b"), Err: errors.New(forged)},
		&spawn.CallError{Method: forged, Err: errors.New(forged)},
	} {
		requireShown(t, "one's own", err.Error())
	}
}
