//go:build linux && (amd64 || arm64)

// Package stub makes the executable by which a child leaves the memory of the
// process that has cloned it: a static ELF file that holds the loop of package
// child, and of a program what is still to be run.
//
// It is executed by its descriptor, a sealed memfd, needs no interpreter and no
// stack, and its memory holds one command and nothing else. The code can be
// read and executed, the data read and written.
//
// Only package plan imports it.
package stub

import (
	"encoding/binary"
	"os"
	"sync"

	"github.com/virspawn/spawn/internal/descriptor"
	"golang.org/x/sys/unix"
)

// Where the segments are. Both are multiples of the largest page.
const (
	codeAt = 0x00400000
	// Data is the address of the data.
	Data = 0x10000000
)

// Name is the name of the memfd, and argument 0 of the stub.
const Name = "spawn-stub"

// New returns the descriptor of an empty executable. The kernel or a policy may
// refuse it: the error is then EACCES where vm.memfd_noexec is 2 (Linux 6.3).
func New() (fd int, err error) { return descriptor.Memfd(Name, true) }

// images are buffers for executables, all of whose bytes are 0.
var images = sync.Pool{New: func() any { return new([]byte) }}

// Write makes the executable, with code that is entered at its first byte and
// with what add appends, and seals it.
func Write(fd int, code []byte, add func(b []byte) []byte) error {
	room := images.Get().(*[]byte)
	defer images.Put(room)
	page := os.Getpagesize()
	if cap(*room) < page {
		*room = make([]byte, 0, page+firstData)
	}
	small := (*room)[:page]
	b := add(small)
	*room = b[:0]
	// There may be secrets, which both have where the room was too small.
	defer func() {
		if &b[0] != &small[0] {
			clear(small[:cap(small)])
		}
		clear(b)
	}()
	putHeaders(b, code, page)
	for off := 0; off < len(b); {
		n, err := unix.Pwrite(fd, b[off:], int64(off))
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("pwrite64", err)
		}
		off += max(n, 0)
	}
	// F_SEAL_WRITE would wait until no processor has the new pages on a list
	// of its own, which takes longer than the rest of a start. Nobody has the
	// file mapped.
	//
	// Linux 5.1
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_FUTURE_WRITE
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return os.NewSyscallError("fcntl(F_ADD_SEALS)", err)
}

// firstData is room for the data of an ordinary command.
const firstData = 32 << 10

// An ELF file's headers. (elf(5))
const (
	magic      = "\x7fELF\x02\x01\x01" // 64 bits, little endian, version 1
	executable = 2                     // ET_EXEC: not to be moved
	version    = 1
	load       = 1          // PT_LOAD
	stack      = 0x6474e551 // PT_GNU_STACK
	canExecute = 1
	canWrite   = 2
	canRead    = 4

	headerSize  = 64
	segmentSize = 56
	segments    = 3
	entry       = headerSize + segments*segmentSize
)

// putHeaders puts the headers and the code into the first page.
func putHeaders(b, code []byte, page int) {
	le := binary.LittleEndian
	if entry+len(code) > page {
		panic("spawn: the code of the stub needs more than a page")
	}
	copy(b, magic)
	le.PutUint16(b[16:], executable)
	le.PutUint16(b[18:], machine)
	le.PutUint32(b[20:], version)
	le.PutUint64(b[24:], codeAt+entry)
	le.PutUint64(b[32:], headerSize) // where the segments are described
	le.PutUint16(b[52:], headerSize)
	le.PutUint16(b[54:], segmentSize)
	le.PutUint16(b[56:], segments)

	segment := func(n int, kind, flags uint32, off, addr, size int) {
		s := b[headerSize+n*segmentSize:]
		le.PutUint32(s, kind)
		le.PutUint32(s[4:], flags)
		le.PutUint64(s[8:], uint64(off))
		le.PutUint64(s[16:], uint64(addr))
		le.PutUint64(s[24:], uint64(addr))
		le.PutUint64(s[32:], uint64(size)) // in the file
		le.PutUint64(s[40:], uint64(size)) // in memory
		le.PutUint64(s[48:], uint64(page))
	}
	segment(0, load, canRead|canExecute, 0, codeAt, entry+len(code))
	segment(1, load, canRead|canWrite, page, Data, len(b)-page)
	// Without this one the kernel makes the stack executable, or all that can
	// be read.
	segment(2, stack, canRead|canWrite, 0, 0, 0)
	copy(b[entry:], code)
}
