package transfer_test

import (
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/testkit"
	"github.com/virspawn/spawn/internal/transfer"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["flood"] = flood
}

// flood fills its standard output faster than anybody reads it, until
// nobody does any more. A read takes one byte (O_DIRECT in pipe(2)), and one
// call writes as many as there is room for (tee(2)). It then says "cut" on
// descriptor 4, or "whole" after a time that is far too long.
func flood([]string) int {
	var full [2]int
	if err := unix.Pipe2(full[:], unix.O_CLOEXEC|unix.O_DIRECT); err != nil {
		return testkit.Fail(err)
	}
	if err := unix.SetNonblock(full[1], true); err != nil {
		return testkit.Fail(err)
	}
	for _, fd := range []int{full[1], 1} {
		// Where this is not granted there is only less in advance.
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, transfer.BulkPipe)
	}
	for {
		if _, err := unix.Write(full[1], []byte("y")); err == unix.EAGAIN {
			break
		}
	}
	for range 2 {
		go func() {
			for {
				if _, err := unix.Tee(full[0], 1, transfer.BulkPipe, 0); err != nil && err != unix.EINTR {
					return
				}
			}
		}()
	}
	report := os.NewFile(4, "report")
	_, _ = io.WriteString(report, "started\n")
	// The pipe itself is asked, again and again, and then written to: on Linux
	// 5.10 this was seen to report nothing when it relied on tee to return.
	end := "whole"
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && end == "whole"; {
		fds := []unix.PollFd{{Fd: 1}} // POLLERR comes unasked
		if _, err := unix.Poll(fds, 100); err != nil || fds[0].Revents&unix.POLLERR == 0 {
			continue
		}
		if _, err := unix.Write(1, []byte("y")); err == unix.EPIPE {
			end = "cut"
		}
	}
	_, _ = io.WriteString(report, end+"\n")
	return 0
}

// startFlood returns a command whose child starts a flood by this script, and
// what the flood reports.
func startFlood(t testing.TB, script string) (c *spawn.Command, report *os.File) {
	c = testkit.Shell(`"$1" "$2" `+script, testkit.Self(t), testkit.HelperPrefix+"flood")
	return c, testkit.PassPipe(t, c, 4)
}

func TestAGrandchildThatFloodsStdoutDoesNotHoldUpTheCallOnceTheContextHasEnded(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.ForSlowCalls(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
			c, report := startFlood(t, "& exit 3")
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			out, err := testkit.During(call, c, ctx, func() {
				require.Equal(t, "started", testkit.ReadLine(t, report))
				testkit.WaitForNoChild(t)
				cancel()
			})
			require.ErrorIs(t, err, context.Canceled)
			testkit.RequireExit(t, err, 3)
			require.NotEmpty(t, out)
			require.Equal(t, "cut", testkit.ReadLine(t, report))
		})
	})
}

func TestAGrandchildThatFloodsIsCutWhenTheContextEndsTheChild(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		for name, to := range map[string]string{"stdout": "", "the tail of stderr": ">&2"} {
			t.Run(name, func(t *testing.T) {
				testkit.CheckLeaks(t)
				c, report := startFlood(t, to+" & wait")
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				_, err := testkit.During(testkit.Calls["Output"], c, ctx, func() {
					require.Equal(t, "started", testkit.ReadLine(t, report))
					cancel()
				})
				require.ErrorIs(t, err, context.Canceled)
				testkit.RequireSignal(t, err, unix.SIGTERM)
				require.Equal(t, "cut", testkit.ReadLine(t, report))
			})
		}
	})
}

func TestAGrandchildThatFloodsStderrDoesNotHoldUpTheCallAndSurvivesIt(t *testing.T) {
	testkit.InBothWaits(t, func(t *testing.T) {
		testkit.CheckLeaks(t)
		c, report := startFlood(t, `3>&- >&2 & echo "$!" >&3; exit 3`)
		pid := testkit.PassPipe(t, c, 3)
		testkit.RequireExit(t, c.Run(context.Background()), 3)
		n, err := strconv.Atoi(testkit.ReadLine(t, pid))
		require.NoError(t, err)
		require.Equal(t, "started", testkit.ReadLine(t, report))
		require.NoError(t, unix.Kill(n, unix.SIGKILL))
		_, err = report.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "it was neither cut nor at its end")
	})
}

// TestATransferThatNeverHasToWaitCanBeEnded is about what a flood is with some
// luck: a pipe that is never found empty.
func TestATransferThatNeverHasToWaitCanBeEnded(t *testing.T) {
	for name, drain := range map[string]func(j *transfer.Job) bool{
		"drained":           (*transfer.Job).Drain,
		"parked, drained":   (*transfer.Job).Drain,
		"parked and closed": func(*transfer.Job) bool { return false },
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckLeaks(t)
			fd, err := unix.MemfdCreate("zeros", unix.MFD_CLOEXEC)
			require.NoError(t, err)
			require.NoError(t, unix.Ftruncate(fd, 1<<42))
			descriptor.SetNonblock(fd)
			same, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			require.NoError(t, err)
			defer unix.Close(same)
			j := &transfer.Job{FD: fd, Out: transfer.Capture{Tail: true}}
			if strings.HasPrefix(name, "parked") {
				j.Park()
				testkit.Eventually(t, "it reads", func() bool {
					at, err := unix.Seek(same, 0, io.SeekCurrent)
					return err == nil && at > 0
				})
			}
			drained := make(chan bool, 1)
			go func() {
				all := drain(j)
				j.Close()
				drained <- all
			}()
			testkit.Eventually(t, "it ends", func() bool { return len(drained) == 1 })
			require.False(t, <-drained)
		})
	}
}
