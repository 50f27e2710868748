package spawn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"github.com/virspawn/spawn/internal/transfer"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["io-without-streams"] = runWithoutStreams
}

// requireSame compares without printing megabytes.
func requireSame(t testing.TB, want []byte, got string, what string) {
	t.Helper()
	require.Len(t, []byte(got), len(want), what)
	require.True(t, string(want) == got, "%s: %d bytes differ from those expected", what, len(want))
}

// pipeSizes are the sizes around what a pipe holds, and one far above.
func pipeSizes(large int) []int {
	if testing.Short() {
		return []int{0, 64 << 10, 64<<10 + 1, 200 << 10}
	}
	return []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, large}
}

// slowly returns a command that reads n bytes in many small pieces, and
// writes them.
func slowly(n int) *spawn.Command {
	if n <= 1 || n == 64<<10+1 && testkit.Rounds(2, 1) == 2 {
		return spawn.New("dd", "bs=1")
	}
	return spawn.New("dd", "bs=1021")
}

func TestInputOfAnySizeReachesAChildThatReadsSlowly(t *testing.T) {
	ctx := context.Background()
	ways := map[string]func(t *testing.T, c *spawn.Command, data []byte){
		"SetInput":           func(_ *testing.T, c *spawn.Command, data []byte) { c.SetInput(data) },
		"SetStdin of memory": func(_ *testing.T, c *spawn.Command, data []byte) { c.SetStdin(bytes.NewReader(data)) },
		"SetStdin in pieces": func(_ *testing.T, c *spawn.Command, data []byte) {
			c.SetStdin(io.MultiReader(bytes.NewReader(data[:len(data)/3]), bytes.NewReader(data[len(data)/3:])))
		},
		"SetStdin of a file": func(t *testing.T, c *spawn.Command, data []byte) {
			f, err := os.Open(testkit.DataFile(t, data))
			require.NoError(t, err)
			t.Cleanup(func() { f.Close() })
			c.SetStdin(f)
		},
	}
	testkit.InBothWaits(t, func(t *testing.T) {
		for name, set := range ways {
			t.Run(name, func(t *testing.T) {
				testkit.CheckLeaks(t)
				for _, n := range pipeSizes(8 << 20) {
					data := testkit.Pattern(n)
					c := slowly(n)
					set(t, c, data)
					out, err := c.Output(ctx)
					require.NoError(t, err)
					requireSame(t, data, string(out), fmt.Sprint(n))
				}
			})
		}
	})
}

func TestInputThatTheChildDoesNotReadIsNoError(t *testing.T) {
	children := map[string]*spawn.Command{
		"reads nothing":          spawn.New("/bin/true"),
		"reads a little":         spawn.New("dd", "bs=10", "count=1"),
		"closes it and lives on": testkit.Shell("exec <&-; dd bs=10 count=1 </dev/zero; exit 0"),
	}
	testkit.InBothWaits(t, func(t *testing.T) {
		for name, child := range children {
			t.Run(name, func(t *testing.T) {
				testkit.CheckLeaks(t)
				for _, n := range pipeSizes(8 << 20) {
					data := testkit.Pattern(n)
					require.NoError(t, child.Clone().SetInput(data).Run(context.Background()))
					require.NoError(t, child.Clone().SetStdin(bytes.NewReader(data)).Run(context.Background()))
				}
				// One that has no end.
				require.NoError(t, child.Clone().SetStdin(testkit.Zeros{}).Run(context.Background()))
			})
		}
	})
}

func TestOutputOfAnySizeIsTakenWhole(t *testing.T) {
	ctx := context.Background()
	const out, err = "cat \"$1\"", "cat \"$1\" >&2"
	ways := []struct {
		name   string
		script string
		take   func(t *testing.T, c *spawn.Command) (string, error)
	}{
		{"Output", out, func(_ *testing.T, c *spawn.Command) (string, error) {
			b, err := c.Output(ctx)
			return string(b), err
		}},
		{"CombinedOutput", out, func(_ *testing.T, c *spawn.Command) (string, error) {
			b, err := c.CombinedOutput(ctx)
			return string(b), err
		}},
		{"CombinedOutput of stderr", err, func(_ *testing.T, c *spawn.Command) (string, error) {
			b, err := c.CombinedOutput(ctx)
			return string(b), err
		}},
		{"SetOutputBuffer", out, func(_ *testing.T, c *spawn.Command) (s string, err error) {
			err = c.SetOutputBuffer(&s).Run(ctx)
			return s, err
		}},
		{"SetErrorBuffer", err, func(_ *testing.T, c *spawn.Command) (s string, err error) {
			err = c.SetErrorBuffer(&s).Run(ctx)
			return s, err
		}},
		{"SetOutputBuffer of a Process", out, func(t *testing.T, c *spawn.Command) (s string, err error) {
			p, err := c.SetOutputBuffer(&s).Start(ctx)
			require.NoError(t, err)
			err = p.Wait()
			return s, err
		}},
		{"SetStdout", out, func(_ *testing.T, c *spawn.Command) (string, error) {
			var b bytes.Buffer
			err := c.SetStdout(&b).Run(ctx)
			return b.String(), err
		}},
		{"SetStderr", err, func(_ *testing.T, c *spawn.Command) (string, error) {
			var b bytes.Buffer
			err := c.SetStderr(&b).Run(ctx)
			return b.String(), err
		}},
		{"SetStdout of a file", out, func(t *testing.T, c *spawn.Command) (string, error) {
			f, err := os.Create(filepath.Join(t.TempDir(), "out"))
			require.NoError(t, err)
			defer f.Close()
			err = c.SetStdout(f).Run(ctx)
			b, readErr := os.ReadFile(f.Name())
			require.NoError(t, readErr)
			return string(b), err
		}},
		{"PipeStdout", out, func(t *testing.T, c *spawn.Command) (string, error) {
			p, err := c.PipeStdout().Start(ctx)
			require.NoError(t, err)
			b, err := io.ReadAll(p.Stdout())
			require.NoError(t, err)
			require.NoError(t, p.Stdout().Close())
			return string(b), p.Wait()
		}},
		{"PipeStderr", err, func(t *testing.T, c *spawn.Command) (string, error) {
			p, err := c.PipeStderr().Start(ctx)
			require.NoError(t, err)
			var b bytes.Buffer
			_, err = io.Copy(&b, p.Stderr())
			require.NoError(t, err)
			require.NoError(t, p.Stderr().Close())
			return b.String(), p.Wait()
		}},
		{"Lines", out, func(t *testing.T, c *spawn.Command) (string, error) { return joined(t, c.Lines(ctx), '\n') }},
		{"Records", out, func(t *testing.T, c *spawn.Command) (string, error) { return joined(t, c.Records(ctx, 0), 0) }},
	}
	sizes := append(pipeSizes(1<<20), 320<<10-1, 320<<10, 320<<10+1)
	huge := 32 << 20
	if testing.Short() {
		sizes, huge = []int{0, 64<<10 + 1}, 1<<20
	}
	data, files := map[int][]byte{}, map[int]string{}
	for _, n := range append(sizes, huge) {
		data[n] = unterminated(n)
		files[n] = testkit.DataFile(t, data[n])
	}
	run := func(t *testing.T, n int, i int) {
		got, err := ways[i].take(t, testkit.Shell(ways[i].script, files[n]))
		require.NoError(t, err)
		requireSame(t, data[n], got, fmt.Sprint(n))
	}
	testkit.InBothWaits(t, func(t *testing.T) {
		for i := range ways {
			t.Run(ways[i].name, func(t *testing.T) {
				testkit.CheckLeaks(t)
				for _, n := range sizes {
					run(t, n, i)
				}
			})
		}
		t.Run("Output of 32 MiB", func(t *testing.T) {
			testkit.CheckLeaks(t)
			run(t, huge, 0)
		})
	})
}

// unterminated is a pattern that does not end with a line feed, which Lines
// would not tell from none.
func unterminated(n int) []byte {
	b := bytes.Clone(testkit.Pattern(n))
	if n > 0 {
		b[n-1] = '.'
	}
	return b
}

func TestAllStreamsFlowAtOnce(t *testing.T) {
	ctx := context.Background()
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		for _, n := range pipeSizes(4 << 20) {
			data := testkit.Pattern(n)
			both := func() *spawn.Command { return spawn.New("tee", "/dev/stderr") }

			var s, e string
			require.NoError(t, both().SetInput(data).SetOutputBuffer(&s).SetErrorBuffer(&e).Run(ctx))
			requireSame(t, data, s, "SetOutputBuffer")
			requireSame(t, data, e, "SetErrorBuffer")

			var o, w bytes.Buffer
			require.NoError(t, both().SetStdin(bytes.NewReader(data)).SetStdout(&o).SetStderr(&w).Run(ctx))
			requireSame(t, data, o.String(), "SetStdout")
			requireSame(t, data, w.String(), "SetStderr")

			out, err := both().SetInput(data).SetStderr(io.Discard).Output(ctx)
			require.NoError(t, err)
			requireSame(t, data, string(out), "Output")

			w.Reset()
			p, err := both().SetStdin(bytes.NewReader(data)).SetOutputBuffer(&s).SetStderr(&w).Start(ctx)
			require.NoError(t, err)
			require.NoError(t, p.Wait())
			requireSame(t, data, s, "SetOutputBuffer of a Process")
			requireSame(t, data, w.String(), "SetStderr of a Process")
		}
	})
}

func TestPipesOfAProcessFlowAtOnce(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		for _, n := range pipeSizes(4 << 20) {
			data := testkit.Pattern(n)
			p, err := spawn.New("tee", "/dev/stderr").PipeStdin().PipeStdout().PipeStderr().Start(context.Background())
			require.NoError(t, err)
			var out, errOut []byte
			var wg sync.WaitGroup
			for _, f := range []func() error{
				func() error {
					_, err := p.Stdin().Write(data)
					return errors.Join(err, p.Stdin().Close())
				},
				func() (err error) { out, err = io.ReadAll(p.Stdout()); return err },
				func() (err error) { errOut, err = io.ReadAll(p.Stderr()); return err },
			} {
				wg.Add(1)
				go func() {
					defer wg.Done()
					if err := f(); err != nil {
						t.Error(err)
					}
				}()
			}
			wg.Wait()
			require.NoError(t, p.Wait())
			requireSame(t, data, string(out), "stdout")
			requireSame(t, data, string(errOut), "stderr")
			require.NoError(t, p.Stdout().Close())
			require.NoError(t, p.Stderr().Close())
		}
	})
}

// exclusive is a writer that notices when two goroutines write at once.
type exclusive struct {
	busy    atomic.Bool
	clashed atomic.Bool
	buf     bytes.Buffer
}

func (w *exclusive) Write(b []byte) (int, error) {
	if !w.busy.CompareAndSwap(false, true) {
		w.clashed.Store(true)
	}
	defer w.busy.Store(false)
	runtime.Gosched()
	return w.buf.Write(b)
}

// inTurns writes 200 lines, alternately to stdout and stderr.
const inTurns = "i=0; while [ $i -lt 100 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"

func inTurnsOutput() string {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "out %d\nerr %d\n", i, i)
	}
	return b.String()
}

func TestOneTargetForBothOutputsKeepsTheirOrder(t *testing.T) {
	ctx := context.Background()
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		want := inTurnsOutput()

		w := new(exclusive)
		require.NoError(t, testkit.Shell(inTurns).SetStdout(w).SetStderr(w).Run(ctx))
		require.Equal(t, want, w.buf.String(), "same writer")
		require.False(t, w.clashed.Load())

		w = new(exclusive)
		require.NoError(t, testkit.Shell(inTurns).SetStderr(w).SetStdout(w).Run(ctx))
		require.Equal(t, want, w.buf.String(), "same writer, set in the other order")
		require.False(t, w.clashed.Load())

		w = new(exclusive)
		require.NoError(t, testkit.Shell(inTurns).SetStdout(w).MergeStderr().Run(ctx))
		require.Equal(t, want, w.buf.String(), "MergeStderr")

		var s string
		require.NoError(t, testkit.Shell(inTurns).SetOutputBuffer(&s).SetErrorBuffer(&s).Run(ctx))
		require.Equal(t, want, s, "same string")

		out, err := testkit.Shell(inTurns).CombinedOutput(ctx)
		require.NoError(t, err)
		require.Equal(t, want, string(out), "CombinedOutput")

		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		require.NoError(t, err)
		require.NoError(t, testkit.Shell(inTurns).SetStdout(f).SetStderr(f).Run(ctx))
		require.NoError(t, f.Close())
		b, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		require.Equal(t, want, string(b), "same file")
	})
}

// boxed is a writer that can be compared, though it is no pointer.
type boxed struct{ w *exclusive }

func (b boxed) Write(p []byte) (int, error) { return b.w.Write(p) }

func TestWritersAreComparedByValueWhereTheyCanBe(t *testing.T) {
	testkit.CheckLeaks(t)
	w := new(exclusive)
	require.NoError(t, testkit.Shell(inTurns).SetStdout(boxed{w}).SetStderr(boxed{w}).Run(context.Background()))
	require.Equal(t, inTurnsOutput(), w.buf.String())
	require.False(t, w.clashed.Load())

	var mu sync.Mutex
	var b bytes.Buffer
	f := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return b.Write(p)
	})
	require.NoError(t, testkit.Shell(inTurns).SetStdout(f).SetStderr(f).Run(context.Background()))
	require.Len(t, b.String(), len(inTurnsOutput()), "two copies, in any order")
}

func TestOutputBufferIsEmptiedAtOnceAndSetAtTheEnd(t *testing.T) {
	ctx := context.Background()
	testkit.CheckLeaks(t)
	for _, set := range []func(c *spawn.Command, s *string) *spawn.Command{(*spawn.Command).SetOutputBuffer, (*spawn.Command).SetErrorBuffer} {
		s := "old"
		c := set(testkit.Shell("tee /dev/stderr; exit 4").SetInput([]byte("new")), &s)
		require.Empty(t, s, "at registration")

		var exit *spawn.ExitError
		for range 2 {
			s = "old"
			require.ErrorAs(t, c.Run(ctx), &exit)
			require.Equal(t, "new", s, "the call fails")
		}

		for script, want := range map[string]unix.Signal{"exit 0": 0, "kill -9 $$": unix.SIGKILL} {
			c := set(testkit.Shell(script), &s)
			s = "old"
			status, _ := c.RunStatus(ctx)
			require.Equal(t, want, status.Signal)
			require.Empty(t, s, "no output")
		}
	}
}

func TestOutputBufferIsEmptyWhenTheProgramCannotBeStarted(t *testing.T) {
	testkit.CheckLeaks(t)
	var s, e string
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho out\necho err >&2\n"), 0o755))
	c := spawn.New(path).SetOutputBuffer(&s).SetErrorBuffer(&e)
	require.NoError(t, c.Run(context.Background()))
	require.Equal(t, []string{"out\n", "err\n"}, []string{s, e})

	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, c.Run(context.Background()), os.ErrNotExist)
	require.Equal(t, []string{"", ""}, []string{s, e}, "not the output of the run before")

	s, e = "old", "old"
	_, err := c.Start(context.Background())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, []string{"", ""}, []string{s, e})
}

var errBoom = errors.New("boom")

// failAfter is a writer that fails once it has n bytes.
type failAfter struct {
	n   int
	err error
}

func (w *failAfter) Write(b []byte) (int, error) {
	if len(b) <= w.n {
		w.n -= len(b)
		return len(b), nil
	}
	return w.n, w.err
}

func TestAWriterThatFailsFailsTheCall(t *testing.T) {
	// What the writer returns may well be what a broken pipe of the child's
	// would be.
	for _, reason := range []error{errBoom, unix.EPIPE, os.ErrClosed, io.ErrShortWrite, io.ErrClosedPipe} {
		t.Run(reason.Error(), func(t *testing.T) {
			testkit.CheckLeaks(t)
			var exit *spawn.ExitError

			err := testkit.Shell("echo text").SetStdout(&failAfter{0, reason}).Run(context.Background())
			require.ErrorIs(t, err, reason)
			require.ErrorAs(t, err, &exit)
			require.ErrorContains(t, err, "stdout: "+reason.Error())
			require.True(t, exit.Status.Success(), "the writer failed, and not the program")

			err = testkit.Shell("echo text >&2").SetStderr(&failAfter{0, reason}).Run(context.Background())
			require.ErrorIs(t, err, reason)
			require.ErrorContains(t, err, "stderr: "+reason.Error())

			status, err := testkit.Shell("echo text").SetStdout(&failAfter{0, reason}).RunStatus(context.Background())
			require.ErrorIs(t, err, reason)
			require.True(t, status.Success())
		})
	}
}

func TestAWriterThatFailsDoesNotHoldUpTheChild(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		err := spawn.New("cat", "/dev/zero").SetStdout(&failAfter{1 << 20, errBoom}).Run(context.Background())
		require.ErrorIs(t, err, errBoom)
		var exit *spawn.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, unix.SIGPIPE, exit.Status.Signal)
	})
}

func TestAWriterThatTakesTooLittleFailsTheCall(t *testing.T) {
	testkit.CheckLeaks(t)
	short := writerFunc(func(b []byte) (int, error) { return len(b) - 1, nil })
	require.ErrorIs(t, testkit.Shell("echo text").SetStdout(short).Run(context.Background()), io.ErrShortWrite)
}

func TestAWritersErrorDoesNotRunTheProgramAgain(t *testing.T) {
	testkit.CheckLeaks(t)
	log := filepath.Join(t.TempDir(), "log")
	err := testkit.Shell(`echo run >>"$1"; echo text`, log).SetStdout(&failAfter{0, unix.ETXTBSY}).Run(context.Background())
	require.ErrorIs(t, err, unix.ETXTBSY)
	runs, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, "run\n", string(runs))
}

func TestAReaderThatFailsEndsTheInputAndFailsTheCall(t *testing.T) {
	for _, reason := range []error{errBoom, unix.EPIPE, os.ErrClosed, io.ErrUnexpectedEOF} {
		t.Run(reason.Error(), func(t *testing.T) {
			testkit.CheckLeaks(t)
			r := io.MultiReader(strings.NewReader("text"), failingReader{reason})
			out, err := spawn.New("/bin/cat").SetStdin(r).Output(context.Background())
			require.ErrorIs(t, err, reason)
			require.ErrorContains(t, err, "stdin: "+reason.Error())
			require.Equal(t, "text", string(out))
			var exit *spawn.ExitError
			require.ErrorAs(t, err, &exit)
			require.True(t, exit.Status.Success(), "the reader failed, and not the program")
		})
	}
}

func TestAReaderThatBlocksDoesNotHoldUpTheCall(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		r, w := io.Pipe()
		require.NoError(t, spawn.New("/bin/true").SetStdin(r).Run(context.Background()))

		p, err := testkit.Shell("exit 3").SetStdin(r).Start(context.Background())
		require.NoError(t, err)
		var exit *spawn.ExitError
		require.ErrorAs(t, p.Wait(), &exit)
		require.Equal(t, 3, exit.Status.ExitCode)
		require.NoError(t, exit.Err)
		require.NoError(t, w.Close()) // what was left behind ends
	})
}

func TestAWriterThatBlocksIsWaitedForWhileTheContextLasts(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		r, w := io.Pipe()
		result := make(chan error)
		go func() { result <- testkit.Shell("echo text").SetStdout(w).Run(context.Background()) }()
		_, err := r.Read(make([]byte, 1))
		require.NoError(t, err)
		testkit.WaitForNoChild(t)
		require.Empty(t, result, "the call has not returned")
		rest := make([]byte, 4)
		_, err = io.ReadFull(r, rest)
		require.NoError(t, err)
		require.Equal(t, "ext\n", string(rest))
		require.NoError(t, <-result)
	})
}

func TestAWriterThatBlocksDoesNotHoldUpTheCallOnceTheContextHasEnded(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		r, w := io.Pipe()
		result := make(chan error)
		go func() { result <- testkit.Shell("echo text").SetStdout(w).Run(ctx) }()
		_, err := r.Read(make([]byte, 1))
		require.NoError(t, err)
		testkit.WaitForNoChild(t)
		cancel()
		err = <-result
		require.ErrorIs(t, err, context.Canceled)
		var exit *spawn.ExitError
		require.ErrorAs(t, err, &exit)
		require.True(t, exit.Status.Success())
		require.NoError(t, r.Close()) // what was left behind ends
	})
}

func TestNoReaderAndNoWriterAreDevNull(t *testing.T) {
	testkit.CheckLeaks(t)
	// -ef: the same file.
	c := testkit.Shell("for n in 0 1 2; do [ /dev/fd/$n -ef /dev/null ] || exit 9; done")
	for _, c := range []*spawn.Command{c, c.Clone().SetInput(nil).SetStdin(nil).SetStdout(nil).SetStderr(io.Discard).SetStderr(nil)} {
		p, err := c.Start(context.Background())
		require.NoError(t, err)
		require.NoError(t, p.Wait())
	}

	var f *os.File
	require.ErrorContains(t, spawn.New("/bin/true").SetStdin(f).Run(context.Background()), "SetStdin: the file is nil")
	require.ErrorContains(t, spawn.New("/bin/true").SetStdout(f).Run(context.Background()), "SetStdout: the file is nil")
	require.ErrorContains(t, spawn.New("/bin/true").SetStderr(f).Run(context.Background()), "SetStderr: the file is nil")
	require.ErrorContains(t, spawn.New("/bin/true").SetOutputBuffer(nil).Run(context.Background()), "SetOutputBuffer: the string pointer is nil")
	require.ErrorContains(t, spawn.New("/bin/true").SetErrorBuffer(nil).Run(context.Background()), "SetErrorBuffer: the string pointer is nil")
}

// joined puts records together again, with sep between.
func joined(t *testing.T, records iter.Seq2[string, error], sep byte) (string, error) {
	var b strings.Builder
	n := 0
	for record, err := range records {
		require.NoError(t, err)
		if n++; n > 1 {
			b.WriteByte(sep)
		}
		b.WriteString(record)
	}
	return b.String(), nil
}

func TestLinesSplitsAtLineFeedsOnly(t *testing.T) {
	long := strings.Repeat("long", 1<<18)
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		for text, want := range map[string][]string{
			"":                       nil,
			"\n":                     {""},
			"\n\n":                   {"", ""},
			"a":                      {"a"},
			"a\n":                    {"a"},
			"a\nb":                   {"a", "b"},
			"a\r\n\x00\n b \n":       {"a\r", "\x00", " b "},
			long:                     {long},
			long + "\n":              {long},
			"a\n" + long + "\n\nend": {"a", long, "", "end"},
		} {
			got, err := testkit.Lines(spawn.New("/bin/cat").SetInput([]byte(text)))
			require.NoError(t, err)
			require.True(t, slices.Equal(want, got), "%.20q", text)
		}
	})
}

func TestLinesYieldsTheErrorLast(t *testing.T) {
	testkit.CheckLeaks(t)
	got, err := testkit.Lines(testkit.Shell("echo a; echo reason >&2; printf b; exit 3"))
	require.Equal(t, []string{"a", "b", "ERROR"}, got)
	var exit *spawn.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.Status.ExitCode)
	require.ErrorContains(t, err, "exit status 3: reason")

	got, err = testkit.Lines(spawn.New("/nonexistent/program"))
	require.Equal(t, []string{"ERROR"}, got)
	require.ErrorIs(t, err, os.ErrNotExist)

	got, err = testkit.Lines(spawn.New(""))
	require.Equal(t, []string{"ERROR"}, got)
	require.ErrorContains(t, err, "name is empty")

	got, err = testkit.Lines(spawn.New("/bin/cat").SetStdin(failingReader{errBoom}))
	require.Equal(t, []string{"ERROR"}, got)
	require.ErrorIs(t, err, errBoom)
}

func TestLinesRefusesAnOutputThatGoesElsewhere(t *testing.T) {
	testkit.CheckLeaks(t)
	var s string
	for _, c := range []*spawn.Command{
		spawn.New("/bin/echo").SetOutputBuffer(&s), spawn.New("/bin/echo").SetStdout(io.Discard), spawn.New("/bin/echo").PipeStdout(),
		spawn.New("/bin/echo").InheritStdio(), spawn.New("/bin/echo").SetStdout(os.Stdout),
	} {
		got, err := testkit.Lines(c)
		require.Equal(t, []string{"ERROR"}, got)
		require.EqualError(t, err, "spawn: Lines: stdout is directed elsewhere already")
		err = recordsError(c)
		require.EqualError(t, err, "spawn: Records: stdout is directed elsewhere already")
		err = c.RunRegex(context.Background(), testkit.AnyLine, failOnMatch(t))
		require.EqualError(t, err, "spawn: RunRegex: stdout is directed elsewhere already")
		_, err = c.Output(context.Background())
		require.EqualError(t, err, "spawn: Output: stdout is directed elsewhere already")
		_, err = c.CombinedOutput(context.Background())
		require.EqualError(t, err, "spawn: CombinedOutput: stdout is directed elsewhere already")
	}
	for _, c := range []*spawn.Command{
		spawn.New("/bin/echo").SetErrorBuffer(&s), spawn.New("/bin/echo").SetStderr(io.Discard), spawn.New("/bin/echo").SetStderr(os.Stderr),
	} {
		_, err := c.CombinedOutput(context.Background())
		require.EqualError(t, err, "spawn: CombinedOutput: stderr is directed elsewhere already")
	}
}

func TestPipesAreForStartOnly(t *testing.T) {
	testkit.CheckLeaks(t)
	for name, c := range map[string]*spawn.Command{
		"PipeStdin": spawn.New("/bin/cat").PipeStdin(), "PipeStdout": spawn.New("/bin/cat").PipeStdout(), "PipeStderr": spawn.New("/bin/cat").PipeStderr(),
	} {
		err := c.Run(context.Background())
		require.EqualError(t, err, "spawn: Run: "+name+" needs Start")
	}
	_, err := spawn.New("/bin/cat").PipeStdin().Output(context.Background())
	require.EqualError(t, err, "spawn: Output: PipeStdin needs Start")
	_, err = testkit.Lines(spawn.New("/bin/cat").PipeStdin())
	require.EqualError(t, err, "spawn: Lines: PipeStdin needs Start")
	require.EqualError(t, recordsError(spawn.New("/bin/true").PipeStderr()), "spawn: Records: PipeStderr needs Start")
	err = spawn.New("/bin/cat").PipeStdin().RunRegex(context.Background(), testkit.AnyLine, failOnMatch(t))
	require.EqualError(t, err, "spawn: RunRegex: PipeStdin needs Start")
}

func TestLinesEndsTheChildWhenTheLoopIsLeft(t *testing.T) {
	endless := func() *spawn.Command { return testkit.Shell("while :; do echo line; done") }
	leave := map[string]func(iter.Seq2[string, error]){
		"break": func(lines iter.Seq2[string, error]) {
			for line, err := range lines {
				require.NoError(t, err)
				require.Equal(t, "line", line)
				break
			}
		},
		"return": func(lines iter.Seq2[string, error]) {
			for range lines {
				return
			}
		},
		"panic": func(lines iter.Seq2[string, error]) {
			defer func() { _ = recover() }()
			for range lines {
				panic("left")
			}
		},
		"Goexit": func(lines iter.Seq2[string, error]) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range lines {
					runtime.Goexit()
				}
			}()
			<-done
		},
	}
	sequences := map[string]func() iter.Seq2[string, error]{
		"Lines":   func() iter.Seq2[string, error] { return endless().Lines(context.Background()) },
		"Records": func() iter.Seq2[string, error] { return endless().Records(context.Background(), '\n') },
		"RunRegex": func() iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				left := errors.New("left")
				err := endless().RunRegex(context.Background(), testkit.AnyLine, func(groups []string) error {
					if !yield(groups[0], nil) {
						return left
					}
					return nil
				})
				require.ErrorIs(t, err, left)
			}
		},
	}
	for name, f := range leave {
		for method, sequence := range sequences {
			t.Run(method+" "+name, func(t *testing.T) {
				testkit.CheckLeaks(t)
				f(sequence())
				testkit.RequireNoChild(t)
			})
		}
	}
}

func TestLinesCanBeRangedOverAgain(t *testing.T) {
	testkit.CheckLeaks(t)
	seq := testkit.Shell("echo a; echo b").Lines(context.Background())
	for range 2 {
		var got []string
		for line, err := range seq {
			require.NoError(t, err)
			got = append(got, line)
		}
		require.Equal(t, []string{"a", "b"}, got)
	}
}

func TestExitErrorKeepsExactlyTheLast32KiBOfStderr(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		for _, n := range []int{0, 1, transfer.TailSize - 1, transfer.TailSize, transfer.TailSize + 1, 64 << 10, 64<<10 + 1, 1<<20 + 7} {
			data := testkit.Pattern(n)
			err := testkit.Shell("cat >&2; exit 3").SetInput(data).Run(context.Background())
			var exit *spawn.ExitError
			require.ErrorAs(t, err, &exit)
			requireSame(t, data[max(0, n-transfer.TailSize):], string(exit.Stderr), fmt.Sprint(n))
		}
	})
}

func TestExitErrorShowsTheLastLineOfStderrThatIsNotEmpty(t *testing.T) {
	testkit.CheckLeaks(t)
	var exit *spawn.ExitError
	err := spawn.New("/bin/sh", "-c", `printf 'first\n  last line \n\n \t\n' >&2; exit 3`).Run(context.Background())
	require.ErrorAs(t, err, &exit)
	require.True(t, strings.HasSuffix(err.Error(), ": exit status 3: last line"), err.Error())
	require.Equal(t, "first\n  last line \n\n \t\n", string(exit.Stderr))

	err = spawn.New("/bin/false").Run(context.Background())
	require.EqualError(t, err, "spawn: /bin/false: exit status 1")
	require.ErrorAs(t, err, &exit)
	require.Nil(t, exit.Stderr)
}

func TestExitErrorHasNoStderrWhereItGoesElsewhere(t *testing.T) {
	testkit.CheckLeaks(t)
	var exit *spawn.ExitError
	fails := func() *spawn.Command { return testkit.Shell("echo reason >&2; exit 3") }
	for _, c := range []*spawn.Command{fails().SetStderr(new(bytes.Buffer)), fails().MergeStderr()} {
		err := c.Run(context.Background())
		require.ErrorAs(t, err, &exit)
		require.Nil(t, exit.Stderr)
		require.NotContains(t, strings.TrimPrefix(err.Error(), "spawn: "+c.String()), "reason")
	}
	p, err := fails().Start(context.Background())
	require.NoError(t, err)
	require.ErrorAs(t, p.Wait(), &exit)
	require.Nil(t, exit.Stderr, "Start keeps nothing")
}

func TestOutputIsReturnedWithAnError(t *testing.T) {
	testkit.CheckLeaks(t)
	out, err := testkit.Shell("echo text; echo reason >&2; exit 3").Output(context.Background())
	require.ErrorContains(t, err, "exit status 3: reason")
	require.Equal(t, "text\n", string(out))
	out, err = testkit.Shell("echo text; echo reason >&2; kill -9 $$").CombinedOutput(context.Background())
	require.ErrorContains(t, err, "signal: killed")
	require.Equal(t, "text\nreason\n", string(out))
}

func TestRunStatusTakesAnExitCodeOrASignalForNoError(t *testing.T) {
	testkit.CheckLeaks(t)
	for script, want := range map[string]spawn.Status{
		"exit 0": {}, "exit 255": {ExitCode: 255}, "kill -9 $$": {ExitCode: -1, Signal: unix.SIGKILL},
	} {
		status, err := testkit.Shell(script).RunStatus(context.Background())
		require.NoError(t, err)
		require.Equal(t, want.ExitCode, status.ExitCode)
		require.Equal(t, want.Signal, status.Signal)
		require.Equal(t, script == "exit 0", status.Success())
	}
	status, err := spawn.New("/nonexistent/program").RunStatus(context.Background())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, -1, status.ExitCode)
}

func TestACommandRunsAnyNumberOfTimesAndAtOnce(t *testing.T) {
	testkit.CheckLeaks(t)
	data := testkit.Pattern(100 << 10)
	c := testkit.Shell("cat; echo reason >&2; exit 3").SetInput(data)
	const runners = 24 // more than the waits that may block
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	var wg sync.WaitGroup
	for range runners {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range rounds {
				out, err := c.Output(context.Background())
				var exit *spawn.ExitError
				switch {
				case !errors.As(err, &exit) || exit.Status.ExitCode != 3 || string(exit.Stderr) != "reason\n":
					t.Errorf("unexpected error %v", err)
				case !bytes.Equal(out, data):
					t.Errorf("%d bytes differ from those expected", len(out))
				}
			}
		}()
	}
	wg.Wait()
}

func TestAProcessWithoutStandardStreamsCanRunPrograms(t *testing.T) {
	testkit.CheckLeaks(t)
	report := filepath.Join(t.TempDir(), "report")
	require.NoError(t, testkit.HelperCommand(t, "io-without-streams", report).Run(context.Background()))
	text, err := os.ReadFile(report)
	require.NoError(t, err)
	require.Equal(t, "good", string(text))
}

// runWithoutStreams closes this process's standard streams, so that pipes get
// their numbers, and then runs programs.
func runWithoutStreams(args []string) int {
	for n := range 3 {
		_ = unix.Close(n)
	}
	report := "good"
	if err := useStreams(); err != nil {
		report = err.Error()
	}
	if os.WriteFile(args[0], []byte(report), 0o644) != nil {
		return 1
	}
	return 0
}

func useStreams() error {
	ctx := context.Background()
	const text = "some text"
	var b, e bytes.Buffer
	var s string
	out, err := spawn.New("tee", "/dev/stderr").SetInput([]byte(text)).SetErrorBuffer(&s).Output(ctx)
	if err != nil || string(out) != text || s != text {
		return fmt.Errorf("buffers: %q %q %w", out, s, err)
	}
	err = spawn.New("tee", "/dev/stderr").SetStdin(strings.NewReader(text)).SetStdout(&b).SetStderr(&e).Run(ctx)
	if err != nil || b.String() != text || e.String() != text {
		return fmt.Errorf("reader and writers: %q %q %w", b.String(), e.String(), err)
	}
	// The pipe breaks: the signal must not end this process because the pipe
	// has the number of its standard output.
	for range 5 {
		if err := spawn.New("/bin/true").SetStdin(testkit.Zeros{}).Run(ctx); err != nil {
			return fmt.Errorf("endless reader: %w", err)
		}
		if err := spawn.New("/bin/true").SetInput(make([]byte, 1<<20)).Run(ctx); err != nil {
			return fmt.Errorf("large input: %w", err)
		}
	}
	p, err := spawn.New("/bin/cat").PipeStdin().PipeStdout().Start(ctx)
	if err != nil {
		return fmt.Errorf("pipes: %w", err)
	}
	if _, err := io.WriteString(p.Stdin(), text); err != nil {
		return fmt.Errorf("pipes: %w", err)
	}
	if err := p.Stdin().Close(); err != nil {
		return fmt.Errorf("pipes: %w", err)
	}
	out, err = io.ReadAll(p.Stdout())
	if err != nil || string(out) != text {
		return fmt.Errorf("pipes: %q %w", out, err)
	}
	if err := p.Stdout().Close(); err != nil {
		return fmt.Errorf("pipes: %w", err)
	}
	if err := p.Wait(); err != nil {
		return fmt.Errorf("pipes: %w", err)
	}

	// What the library holds for a program that runs is not under these
	// numbers, where others would inherit it.
	p, err = spawn.New("/bin/cat").PipeStdin().PipeStdout().Start(ctx)
	if err != nil {
		return fmt.Errorf("no streams: %w", err)
	}
	for n := range 3 {
		if descriptor.IsOpen(n) {
			return fmt.Errorf("no streams: %d is open", n)
		}
	}
	if err := spawn.New("/bin/true").InheritStdio().Run(ctx); !errors.Is(err, unix.EBADF) {
		return fmt.Errorf("no streams: %w", err)
	}
	if err := errors.Join(p.Stdin().Close(), p.Wait(), p.Stdout().Close()); err != nil {
		return fmt.Errorf("no streams: %w", err)
	}

	// As above, the pipe breaks, but it is the caller's end.
	p, err = spawn.New("/bin/true").PipeStdin().Start(ctx)
	if err != nil {
		return fmt.Errorf("broken pipe: %w", err)
	}
	if err := p.Wait(); err != nil {
		return fmt.Errorf("broken pipe: %w", err)
	}
	if _, err := io.WriteString(p.Stdin(), text); !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("broken pipe: %w", err)
	}
	return p.Stdin().Close()
}

func TestWithManyDescriptorsOpenTheChildCopiesATableOfAFew(t *testing.T) {
	testkit.NeedsClone(t)
	testkit.CheckLeaks(t) // its first start has reserved low numbers
	const many = 5000
	if limit := descriptor.Limit(); limit < many+100 {
		t.Skipf("RLIMIT_NOFILE is %d", limit)
	}
	for range many {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
		require.NoError(t, err)
		t.Cleanup(func() { descriptor.Close(fd) })
	}
	for name, c := range map[string]*spawn.Command{
		"input":       spawn.New("/bin/cat").SetInput([]byte("text")),
		"pipes":       spawn.New("/bin/cat").PipeStdin().PipeStdout().PipeStderr(),
		"status pipe": spawn.New("/bin/cat").PipeStdin().RequireHandshake(),
	} {
		text, err := c.Explain()
		require.NoError(t, err, name)
		first, _, _ := strings.Cut(text, "\n")
		var n int
		_, err = fmt.Sscanf(first, "close_range(%d, ~0U, CLOSE_RANGE_UNSHARE)", &n)
		require.NoError(t, err, first)
		require.LessOrEqual(t, n, 64, name)
	}
	out, err := spawn.New("/bin/cat").SetInput([]byte("text")).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "text", string(out))
}

// TestOutputWakesTheThreadOnceForTheTextAndOnceForTheEnd counts how often the
// thread gives up its processor: a stream that the child's end closes must not
// wake it, which would make a short run longer by a tenth.
func TestOutputWakesTheThreadOnceForTheTextAndOnceForTheEnd(t *testing.T) {
	if plan.HelperForced() || !plan.CanClone() {
		t.Skip("a start through a helper is waited for besides")
	}
	if plan.CoreDumpEndsAll() {
		t.Skip("before Linux 5.16 the end of the status pipe wakes it, too")
	}
	hello := testkit.HelloProgram(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const runs = 200
	var before, after unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &before))
	for range runs {
		out, err := spawn.New(hello).Output(context.Background())
		require.NoError(t, err)
		require.Equal(t, "hello\n", string(out))
	}
	require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &after))
	require.Less(t, float64(after.Nvcsw-before.Nvcsw)/runs, 2.5)
}
