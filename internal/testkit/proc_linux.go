package testkit

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
)

// ProcText returns a file of a process's in /proc.
func ProcText(t testing.TB, p *spawn.Process, name string) string {
	t.Helper()
	return ReadFile(t, "/proc/"+strconv.Itoa(p.PID())+"/"+name)
}

// ReadFile returns the text of a file without space around it.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.TrimSpace(string(b))
}

// StatusField returns a field of proc_pid_status(5).
func StatusField(status, name string) string {
	for line := range strings.Lines(status) {
		if field, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(field)
		}
	}
	return ""
}

// CallNames returns the names of the system calls in a text of Explain, each
// run of the same one once.
func CallNames(text string) (names []string) {
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, "(")
		names = append(names, name)
	}
	return slices.Compact(names)
}

// ReadProc reads a file about a process.
func ReadProc(t testing.TB, pid int, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	require.NoError(t, err)
	return b
}

// Readlink returns what a symbolic link refers to.
func Readlink(t testing.TB, path string) string {
	t.Helper()
	s, err := os.Readlink(path)
	require.NoError(t, err)
	return s
}

// ProcessState returns the state of a process as proc_pid_stat(5) has it, and 0
// when there is no such process.
func ProcessState(pid int) byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The rest is behind the name, which has no parenthesis here.
	_, rest, _ := strings.Cut(string(text), ") ")
	return rest[0]
}

// CatStatus is a command whose program prints its own status.
func CatStatus() *spawn.Command { return spawn.New("/bin/cat", "/proc/self/status") }

// StatusOf runs a command made by CatStatus and returns what it prints,
// by field.
func StatusOf(c *spawn.Command) (map[string]string, error) {
	out, err := c.Output(context.Background())
	return ParseStatus(out), err
}

// ParseStatus returns the fields of a text as in proc_pid_status(5).
func ParseStatus(b []byte) map[string]string {
	fields := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.Join(strings.Fields(value), " ")
		}
	}
	return fields
}
