//go:build linux && (amd64 || arm64)

package child

import (
	"bytes"
	"sync/atomic"
	"unsafe"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// frame is what the assembly works on. It lies in the program's memory, which
// the child may still read when the parent's goroutine has moved on.
type frame struct {
	call   [6]uintptr // number and arguments of clone3 or clone
	block  uint64     // every signal
	saved  uint64     // the parent's signal mask
	first  uintptr    // the ops
	end    uintptr
	report uintptr // program.ReportTo
	inside uint32  // not 0 while the child shares this memory
	pidfd  int32   // set by the kernel
}

// For the assembly, through go_asm.h.
type op program.Op

const (
	flagIgnore = uintptr(program.Ignore)
	flagStore  = uintptr(program.Store)
	flagExpect = uintptr(program.Expect)
	flagRetry  = uintptr(program.Retry)
	flagLeave  = uintptr(program.Leave)
)

// The assembly is their only user.
var _ op

const _ = flagIgnore | flagStore | flagExpect | flagRetry | flagLeave

// newFrame allocates a frame in the program's memory.
//
// Preconditions: frame has no Go pointers and needs no more than
// a word's alignment.
func newFrame(p *program.Program) *frame {
	return (*frame)(unsafe.Pointer(&p.Bytes(p.Alloc(frameSize), frameSize)[0]))
}

// cloneArgs is the kernel's struct clone_args, as of Linux 5.7
// (CLONE_ARGS_SIZE_VER2).
type cloneArgs struct {
	flags      uint64
	pidfd      uint64
	childTID   uint64
	parentTID  uint64
	exitSignal uint64
	stack      uint64
	stackSize  uint64
	tls        uint64
	setTID     uint64
	setTIDSize uint64
	cgroup     uint64
}

const (
	cloneArgsSize  = unsafe.Sizeof(cloneArgs{})
	cloneArgsSize0 = unsafe.Offsetof(cloneArgs{}.setTID) // as of Linux 5.3
)

// newCloneArgs allocates a struct clone_args in the program's memory and
// returns it with its address.
//
// Preconditions: as for newFrame.
func newCloneArgs(p *program.Program) (*cloneArgs, uintptr) {
	addr := p.Alloc(int(cloneArgsSize))
	return (*cloneArgs)(unsafe.Pointer(&p.Bytes(addr, int(cloneArgsSize))[0])), addr
}

// clone blocks every signal, makes the call in f.call, restores the mask and
// returns the raw result. The new process never returns: it runs the ops.
//
// Preconditions: f and all that it points to stay as they are until the new
// process has left this address space.
//
//go:noescape
func clone(f *frame) uintptr

// leftMemory reports whether the child of f has left this address space: exec
// and exit clear the word.
func (f *frame) leftMemory() bool { return atomic.LoadUint32(&f.inside) == 0 }

// wait blocks the thread until the child of f has left this address space, the
// time is over, or a signal interrupts.
func (f *frame) wait(timeout unix.Timespec) {
	// FUTEX_WAIT, not private: the kernel wakes the word as shared.
	const futexWait = 0
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&f.inside)), futexWait, inside, uintptr(unsafe.Pointer(&timeout)), 0, 0)
}

// loopAddress returns the address of the loop's code.
func loopAddress() unsafe.Pointer

// dieAddress returns the address of a handler: see Die.
func dieAddress() unsafe.Pointer

// Die returns the address of a signal handler that ends the child by SIGKILL.
// It is for signals whose default is a core dump: that of a child which shares
// the parent's memory would be the parent's. execve makes it the default.
func Die() uintptr { return uintptr(dieAddress()) }

// loopEnd stands behind the loop's code, which is not longer than loopMax.
const (
	loopEnd = "spawnend"
	loopMax = 1024
)

// loopCode returns the code of the loop.
//
// Preconditions: the text of this program can be read, for loopMax bytes from
// the loop on. It has the pages of the Go runtime behind it.
func loopCode() []byte {
	code := unsafe.Slice((*byte)(loopAddress()), loopMax)
	n := bytes.Index(code, []byte(loopEnd))
	if n < 0 {
		panic("spawn: the end of the child's code was not found")
	}
	return bytes.Clone(code[:n])
}

// frameBytes returns the memory of a frame.
func frameBytes(f *frame) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(f)), frameSize) }

// FrameReport is the offset in a frame of the address to report to.
const FrameReport = uintptr(unsafe.Offsetof(frame{}.report))

// frameSize is the size of a frame in bytes.
const frameSize = int(unsafe.Sizeof(frame{}))

// inside is the value of frame.inside until the kernel clears it.
const inside = 1

// addresses returns the addresses of f's words for the kernel.
//
// Preconditions: f lies in a program's memory, so that it does not move.
func (f *frame) addresses() (word, pidfd uintptr) {
	return uintptr(unsafe.Pointer(&f.inside)), uintptr(unsafe.Pointer(&f.pidfd))
}

// addressOf returns the address of memory that is not Go's.
func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }
