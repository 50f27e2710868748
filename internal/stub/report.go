//go:build linux

package stub

import (
	"encoding/binary"
	"os"
	"syscall"

	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// Report is memory that a stub shares with the process that has started it,
// until it execs or ends: a page where it reports a failure, besides the status
// pipe, and one where the kernel writes the pid of what it forks, and which
// that has not.
type Report struct{ pages []byte }

// ReportAt is where the stub has it.
const ReportAt = 0x08000000

// ReportSize returns the size of a report's memory in bytes: two pages.
func ReportSize() int { return 2 * PIDSize() }

// PIDSize returns the size in bytes of the page with the pid.
func PIDSize() int { return os.Getpagesize() }

// PIDAt returns where the stub has it.
func PIDAt() uintptr { return ReportAt + uintptr(PIDSize()) }

// none stands in the place of a failed op.
const none = ^uint64(0)

// NewReport returns a report and its descriptor. The caller closes both.
func NewReport() (*Report, int, error) {
	pages, fd, err := descriptor.SharedPage("spawn-report", ReportSize())
	if err != nil {
		return nil, -1, err
	}
	r := &Report{pages}
	r.set(1, none)
	return r, fd, nil
}

// SetStatus sets the descriptor of the status pipe, as the stub knows it.
func (r *Report) SetStatus(fd int) { r.set(0, uint64(fd)) }

// Failure returns the failure that the stub has reported, if any, counted from
// its own first call.
//
// Preconditions: the stub has exec'ed or ended.
func (r *Report) Failure() (f program.Failure, failed bool) {
	if r.get(1) == none {
		return f, false
	}
	return program.Failure{Op: int(r.get(1) / program.OpSize), Errno: syscall.Errno(r.get(2))}, true
}

// Forked returns the pid of the process that the stub has forked, 0 if there
// is none.
//
// Preconditions: the stub that has forked it has ended.
func (r *Report) Forked() int { return int(binary.NativeEndian.Uint32(r.pages[PIDSize():])) }

// Close gives the memory back.
func (r *Report) Close() { _ = unix.Munmap(r.pages) } // ours, and whole

func (r *Report) set(word int, v uint64) { binary.NativeEndian.PutUint64(r.pages[8*word:], v) }

func (r *Report) get(word int) uint64 { return binary.NativeEndian.Uint64(r.pages[8*word:]) }
