package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/testkit"
	"github.com/virspawn/spawn/internal/transfer"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["without-poller"] = withoutPoller
}

// pollerNumber is the descriptor of Go's poller, or a bit of it, in a process
// in which the numbers below are taken when it starts. By it a filter knows
// the poller from that of a helper, which inherits the filter and whose runtime
// could not even begin.
const pollerNumber = 64

func TestWhereGosPollerTakesNoMoreFilesEverythingFlows(t *testing.T) {
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	t.Cleanup(func() { null.Close() })
	for name := range pollerUses {
		for _, wait := range []string{"blocked", "parked"} {
			t.Run(name+", "+wait, func(t *testing.T) {
				t.Parallel() // each is a process of its own that mostly waits
				if strings.HasPrefix(name, "a terminal") {
					testkit.NeedsTerminals(t)
				}
				// A transfer that is not made hangs.
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				c := testkit.HelperCommand(t, "without-poller", name, wait)
				for fd := command.Stderr + 1; fd < pollerNumber; fd++ {
					c.PassFDAs(null, fd)
				}
				out, err := c.CombinedOutput(ctx)
				require.NoError(t, err, "%s", out)
			})
		}
	}
}

// withoutPoller makes use args[0] of the library where Go's poller has no room,
// as when fs.epoll.max_user_watches is reached (epoll(7)). Waits block a thread
// for as long as they may or, where args[1] says so, are parked at once.
func withoutPoller(args []string) int {
	// Now it is known by its number, which is free again in the process of
	// a helper.
	if err := unix.CloseRange(command.Stderr+1, pollerNumber-1, 0); err != nil {
		return testkit.Fail(err)
	}
	descriptor.Low.Reserve() // once and for all
	err := transfer.InitPoller()
	if err == nil {
		err = testkit.DenyFlags(unix.SYS_EPOLL_CTL, pollerNumber, uint64(unix.ENOSPC))
	}
	if err != nil {
		return testkit.Fail(err)
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return testkit.Fail(err)
	}
	defer unix.Close(p[1])
	r := transfer.NewPipe(p[0], "pipe")
	defer r.Close()
	if r.Await == nil {
		return testkit.Fail(errors.New("the poller has room"))
	}
	open, goroutines := testkit.OpenNumbers(), runtime.NumGoroutine()
	if err := pollerUses[args[0]](); err != nil {
		return testkit.Fail(err)
	}
	for deadline := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(deadline) {
			return testkit.Fail(errors.New("a goroutine is left"))
		}
	}
	if err := testkit.LeftBehind(open, true); err != nil {
		return testkit.Fail(err)
	}
	return 0
}

// lasting begins a script for a child that lasts longer than a wait may block
// a thread.
const lasting = "sleep 0.2; "

// large is more than any pipe holds.
var large = sync.OnceValue(func() []byte { return testkit.Pattern(1<<20 + 1) })

func same(got []byte, err error) error {
	if err == nil && !bytes.Equal(got, large()) {
		err = fmt.Errorf("%d bytes differ from those expected", len(got))
	}
	return err
}

var pollerUses = map[string]func() error{
	"Output": func() error {
		out, err := testkit.Shell("echo early; " + lasting + "head -c 300000 /dev/zero; echo late").Output(context.Background())
		if err == nil && string(out) != "early\n"+strings.Repeat("\x00", 300000)+"late\n" {
			err = fmt.Errorf("%d bytes of output", len(out))
		}
		return err
	},
	"SetInput": func() error {
		return same(testkit.Shell(lasting + "exec cat").SetInput(large()).Output(context.Background()))
	},
	"SetStdin and SetStdout": func() error {
		var b bytes.Buffer
		err := testkit.Shell(lasting + "exec cat").SetStdin(bytes.NewReader(large())).SetStdout(&b).Run(context.Background())
		return same(b.Bytes(), err)
	},
	"pipes": func() error {
		p, err := testkit.Shell(lasting + "exec tee /dev/stderr").PipeStdin().PipeStdout().PipeStderr().Start(context.Background())
		if err != nil {
			return err
		}
		half := string(large()[:len(large())/2])
		written := make(chan error, 1)
		go func() { // by methods that a file has besides Write
			_, err := io.WriteString(p.Stdin(), half)
			_, copyErr := io.Copy(p.Stdin(), bytes.NewReader(large()[len(large())/2:]))
			written <- errors.Join(err, copyErr, p.Stdin().Close())
		}()
		var out bytes.Buffer
		copied := make(chan error, 1)
		go func() {
			_, err := io.Copy(&out, p.Stdout())
			copied <- errors.Join(err, p.Stdout().Close())
		}()
		errOut, err := io.ReadAll(p.Stderr())
		err = errors.Join(same(errOut, err), <-copied, <-written, p.Stderr().Close(), p.Wait())
		return same(out.Bytes(), err)
	},
	"Lines": func() error {
		n := 0
		for _, err := range testkit.Shell(lasting + "yes | head -n 100000").Lines(context.Background()) {
			if err != nil {
				return err
			}
			n++
		}
		if n != 100000 {
			return fmt.Errorf("%d lines", n)
		}
		return nil
	},
	"a terminal": func() error {
		p, err := testkit.Shell(lasting+"stty raw -echo; echo ready; exec head -c 1048577").SetPTY(0, 0).Start(context.Background())
		if err != nil {
			return err
		}
		const ready = "ready\n"
		text := make([]byte, len(ready))
		if _, err := io.ReadFull(p.PTY(), text); err != nil || string(text) != ready {
			return fmt.Errorf("%q, %w", text, err)
		}
		written := make(chan error, 1)
		go func() {
			_, err := p.PTY().Write(large())
			written <- err
		}()
		out, err := io.ReadAll(p.PTY())
		return errors.Join(same(out, err), <-written, p.Wait(), p.PTY().Close())
	},
	"a terminal that nobody reads": func() error {
		p, err := testkit.Shell("stty raw; echo ready; exec sleep 1000").SetPTY(0, 0).Start(context.Background())
		if err != nil {
			return err
		}
		if _, err := p.PTY().Read(make([]byte, 1)); err != nil {
			return err
		}
		written := make(chan error, 1)
		go func() {
			_, err := p.PTY().Write(large())
			written <- err
		}()
		for testkit.Polled(testkit.Running(p).PTY.In.File, unix.POLLOUT)&unix.POLLOUT != 0 {
			// It is not full yet.
			runtime.Gosched()
		}
		if err := p.Abort(); err != nil {
			return err
		}
		if err := <-written; !errors.Is(err, unix.EIO) {
			return fmt.Errorf("unexpected error %w", err)
		}
		return p.PTY().Close()
	},
	"the end of the context": func() error {
		held, hold, err := os.Pipe()
		if err != nil {
			return err
		}
		defer held.Close()
		defer hold.Close()
		keepsStdout := func() *spawn.Command { return testkit.Shell("{ read x <&3; } & exit 3").PassFDAs(held, 3) }
		calls := map[string]func(ctx context.Context) error{
			"Output":    func(ctx context.Context) error { _, err := keepsStdout().Output(ctx); return err },
			"SetStdout": func(ctx context.Context) error { return keepsStdout().SetStdout(new(bytes.Buffer)).Run(ctx) },
			"SetInput":  func(ctx context.Context) error { return keepsStdout().SetInput(large()).SetStdout(io.Discard).Run(ctx) },
			"PipeStdout": func(ctx context.Context) error {
				p, err := keepsStdout().PipeStdout().Start(ctx)
				if err != nil {
					return err
				}
				if _, err = io.Copy(io.Discard, p.Stdout()); errors.Is(err, os.ErrClosed) {
					err = ctx.Err()
				}
				_ = p.Wait()
				return err
			},
		}
		errs := make(chan error, len(calls))
		for name, call := range calls {
			go func() { // each waits for its context, and then for more output
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				defer cancel()
				err := call(ctx)
				if errors.Is(err, context.DeadlineExceeded) {
					err = nil
				} else {
					err = fmt.Errorf("%s: unexpected error %w", name, err)
				}
				errs <- err
			}()
		}
		for range calls {
			err = errors.Join(err, <-errs)
		}
		return err
	},
	"a grandchild that keeps stderr": func() error {
		r, to, err := os.Pipe()
		if err != nil {
			return err
		}
		from, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer to.Close()
		defer from.Close()
		err = testkit.Shell(testkit.Grandchild).PassFDAs(r, 3, spawn.CloseParent).PassFDAs(w, 4, spawn.CloseParent).SetStdout(os.Stdout).Run(context.Background())
		var exit *spawn.ExitError
		if !errors.As(err, &exit) || exit.Status.ExitCode != 3 {
			return fmt.Errorf("unexpected error %w", err)
		}
		_, err = io.WriteString(to, "go\n")
		text, readErr := io.ReadAll(from)
		if err = errors.Join(err, readErr); err == nil && string(text) != "started\nalive\n" {
			err = fmt.Errorf("the grandchild: %q", text)
		}
		return err
	},
}
