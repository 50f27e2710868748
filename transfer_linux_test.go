package spawn

import (
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["flood"] = flood
}

// flood fills its standard output faster than anybody reads it, until nobody does any more: a read takes one byte (O_DIRECT in pipe(2)), and
// one call writes as many as there is room for (tee(2)). It then says "cut" on descriptor 4, or "whole" after a time that is far too long.
func flood([]string) int {
	var full [2]int
	if err := unix.Pipe2(full[:], unix.O_CLOEXEC|unix.O_DIRECT); err != nil {
		return fail(err)
	}
	if err := unix.SetNonblock(full[1], true); err != nil {
		return fail(err)
	}
	for _, fd := range []int{full[1], 1} {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, bulkPipe) // where it is not granted there is only less in advance
	}
	for {
		if _, err := unix.Write(full[1], []byte("y")); err == unix.EAGAIN {
			break
		}
	}
	for range 2 {
		go func() {
			for {
				if _, err := unix.Tee(full[0], 1, bulkPipe, 0); err != nil && err != unix.EINTR {
					return
				}
			}
		}()
	}
	report := os.NewFile(4, "report")
	_, _ = io.WriteString(report, "started\n")
	// The pipe itself is asked, again and again, and then written to: on Linux 5.10 this was seen to report nothing when it relied on tee to return.
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

// startFlood returns a command whose child starts a flood by this script, and what the flood reports.
func startFlood(t testing.TB, script string) (c *Command, report *os.File) {
	c = shell(`"$1" "$2" `+script, self(t), helperPrefix+"flood")
	return c, passPipe(t, c, 4)
}

func TestAGrandchildThatFloodsStdoutDoesNotHoldUpTheCallOnceTheContextHasEnded(t *testing.T) {
	inBothWaits(t, func(t *testing.T) {
		forEachCall(t, func(t *testing.T, call func(*Command, context.Context) (string, error)) {
			c, report := startFlood(t, "& exit 3")
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			out, err := during(call, c, ctx, func() {
				require.Equal(t, "started", readLine(t, report))
				waitForNoChild(t)
				cancel()
			})
			require.ErrorIs(t, err, context.Canceled)
			requireExit(t, err, 3)
			require.NotEmpty(t, out)
			require.Equal(t, "cut", readLine(t, report))
		})
	})
}

func TestAGrandchildThatFloodsIsCutWhenTheContextEndsTheChild(t *testing.T) {
	inBothWaits(t, func(t *testing.T) {
		for name, to := range map[string]string{"stdout": "", "the tail of stderr": ">&2"} {
			t.Run(name, func(t *testing.T) {
				checkLeaks(t)
				c, report := startFlood(t, to+" & wait")
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				_, err := during(calls["Output"], c, ctx, func() {
					require.Equal(t, "started", readLine(t, report))
					cancel()
				})
				require.ErrorIs(t, err, context.Canceled)
				requireSignal(t, err, unix.SIGTERM)
				require.Equal(t, "cut", readLine(t, report))
			})
		}
	})
}

func TestAGrandchildThatFloodsStderrDoesNotHoldUpTheCallAndSurvivesIt(t *testing.T) {
	inBothWaits(t, func(t *testing.T) {
		checkLeaks(t)
		c, report := startFlood(t, `3>&- >&2 & echo "$!" >&3; exit 3`)
		pid := passPipe(t, c, 3)
		requireExit(t, c.Run(context.Background()), 3)
		n, err := strconv.Atoi(readLine(t, pid))
		require.NoError(t, err)
		require.Equal(t, "started", readLine(t, report))
		require.NoError(t, unix.Kill(n, unix.SIGKILL))
		_, err = report.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "it was neither cut nor at its end")
	})
}

// TestATransferThatNeverHasToWaitCanBeEnded is about what a flood is with some luck: a pipe that is never found empty.
func TestATransferThatNeverHasToWaitCanBeEnded(t *testing.T) {
	for name, drain := range map[string]func(j *job) bool{
		"drained":           (*job).drain,
		"parked, drained":   (*job).drain,
		"parked and closed": func(*job) bool { return false },
	} {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			fd, err := unix.MemfdCreate("zeros", unix.MFD_CLOEXEC)
			require.NoError(t, err)
			require.NoError(t, unix.Ftruncate(fd, 1<<42))
			setNonblock(fd)
			same, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			require.NoError(t, err)
			defer unix.Close(same)
			j := &job{fd: fd, out: capture{tail: true}}
			if strings.HasPrefix(name, "parked") {
				j.park()
				eventually(t, "it reads", func() bool {
					at, err := unix.Seek(same, 0, io.SeekCurrent)
					return err == nil && at > 0
				})
			}
			drained := make(chan bool, 1)
			go func() {
				all := drain(j)
				j.close()
				drained <- all
			}()
			eventually(t, "it ends", func() bool { return len(drained) == 1 })
			require.False(t, <-drained)
		})
	}
}
