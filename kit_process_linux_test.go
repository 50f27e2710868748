package spawn

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newPipe returns a pipe that is closed when the test ends. What hangs in a Read fails in the end.
func newPipe(t testing.TB) (r, w *os.File) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.SetReadDeadline(time.Now().Add(time.Minute)))
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

// readLine reads up to a line feed, and no further.
func readLine(t testing.TB, r io.Reader) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		_, err := io.ReadFull(r, b)
		require.NoError(t, err, "after %q", line)
		if b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

// startReady starts a script that says on its standard output when it is ready.
func startReady(t testing.TB, c *Command) *Process {
	t.Helper()
	p, err := c.PipeStdout().Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { p.Stdout().Close() })
	require.Equal(t, "ready", readLine(t, p.Stdout()))
	return p
}

// trap is a script that handles a signal, $1, with the commands in $2, and waits for it.
const trap = `trap 'kill $s; '"$2" $1; sleep 1000 </dev/null >/dev/null 2>&1 3>&- 4>&- & s=$!; echo ready; wait $s; exit 99`

// ignoreTERM is a script that can be ended by SIGKILL only.
const ignoreTERM = `trap '' TERM; echo ready; exec sleep 1000`

func requireExit(t testing.TB, err error, code int) *ExitError {
	t.Helper()
	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, code, exit.Status.ExitCode, "%v", err)
	require.Zero(t, exit.Status.Signal)
	return exit
}

func requireSignal(t testing.TB, err error, sig syscall.Signal) *ExitError {
	t.Helper()
	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, sig, exit.Status.Signal, "%v", err)
	require.Equal(t, -1, exit.Status.ExitCode)
	return exit
}

// processState returns the state of a process as proc_pid_stat(5) has it, and 0 when there is no such process.
func processState(pid int) byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the name, here without a parenthesis
	return rest[0]
}
