//go:build linux && !(amd64 || arm64)

package child

import (
	"syscall"
	"time"

	"github.com/virspawn/spawn/internal/program"
)

// Available reports whether there is assembly for this processor.
const Available = false

// Size is the room that Start takes in a program's memory.
const Size = 0

// Child is a process that was cloned.
type Child struct{ PID, PIDFD int }

// LeftMemory is not called: there is no child.
func (c *Child) LeftMemory() bool { return true }

// Wait is not called: there is no child.
func (c *Child) Wait(time.Duration) bool { return true }

// Start needs assembly, which exists for amd64 and arm64.
func Start(*program.Program, Options) (Child, *Error) {
	return Child{}, &Error{"clone3", syscall.ENOSYS}
}

// FrameReport is not used: there is no stub.
const FrameReport = uintptr(0)

// Code is not called: there is no stub.
func Code(uint32) []byte { return nil }

// Frame is not called: there is no stub.
func Frame(first, end, report uintptr) []byte { return nil }

// Die is not called: there is no child.
func Die() uintptr { return 0 }
