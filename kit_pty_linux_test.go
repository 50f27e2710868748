package spawn

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// hasTerminals reports whether this machine has pseudo-terminals.
func hasTerminals() bool {
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

func needTerminals(t testing.TB) {
	t.Helper()
	if !hasTerminals() {
		t.Skip("needs terminals")
	}
}
