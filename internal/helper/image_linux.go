package helper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// Image is what a helper gets: descriptors, all that it needs to know of them,
// and the program.
//
// It travels in a sealed memfd: nobody can change it once the helper has looked
// at it.
type Image struct {
	Program *program.Program
	// Report is the descriptor of a Report.
	Report int
	// Kept are further descriptors that the program needs until execve, which
	// closes them.
	Kept []int
	// Only, unless nil, are the descriptors that the new program gets. Whatever
	// else was inherited is closed before anything happens.
	Only []int

	first int // the place of the program's first call in the whole list
}

// seals make a memfd immutable for good.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// NewImage returns the descriptor of an empty image.
func NewImage() (fd int, err error) {
	return descriptor.Memfd("spawn-program", false)
}

// Write writes the image to an empty one and seals it.
func (m *Image) Write(fd int) error {
	var b []byte
	for _, list := range [][]int{{m.Report}, m.Kept, m.Only} {
		b = binary.NativeEndian.AppendUint64(b, uint64(len(list)))
		for _, n := range list {
			b = binary.NativeEndian.AppendUint64(b, uint64(n))
		}
	}
	encoded := m.Program.Encode()
	b = append(b, encoded...)
	clear(encoded) // there may be secrets
	for off := 0; off < len(b); {
		n, err := unix.Pwrite(fd, b[off:], int64(off))
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("pwrite64", err)
		}
		off += max(n, 0)
	}
	clear(b)
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return os.NewSyscallError("fcntl(F_ADD_SEALS)", err)
}

var errImage = errors.New("not a program for a helper")

// readImage reads a sealed image.
func readImage(fd int) (*Image, error) {
	if got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err != nil || got&seals != seals {
		return nil, fmt.Errorf("%w: descriptor %d is not a sealed memfd", errImage, fd)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if err := checkOwner(&stat); err != nil {
		return nil, err
	}
	b := make([]byte, stat.Size)
	for off := 0; off < len(b); {
		n, err := unix.Pread(fd, b[off:], int64(off))
		if n <= 0 && err != unix.EINTR {
			return nil, os.NewSyscallError("pread64", err)
		}
		off += max(n, 0)
	}
	return decodeImage(b)
}

func decodeImage(b []byte) (*Image, error) {
	var lists [3][]int
	for i := range lists {
		if len(b) < 8 {
			return nil, errImage
		}
		n := binary.NativeEndian.Uint64(b)
		b = b[8:]
		if n > uint64(len(b)/8) {
			return nil, errImage
		}
		for range n {
			lists[i] = append(lists[i], int(binary.NativeEndian.Uint64(b)))
			b = b[8:]
		}
	}
	if len(lists[0]) != 1 {
		return nil, errImage
	}
	m := &Image{Report: lists[0][0], Kept: lists[1], Only: lists[2]}
	var err error
	m.Program, m.first, err = program.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errImage, err)
	}
	return m, nil
}
