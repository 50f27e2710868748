package descriptor

import (
	"errors"
	"math"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// The child gets a copy of the descriptor table up to the highest number
// that it needs (close_range with CLOSE_RANGE_UNSHARE). So the child's end of
// a new pipe must have a low number, also where this process has thousands of
// descriptors open. A small block of low numbers is therefore reserved at the
// first start, and lent to the ends of pipes that go to a child.
//
// What holds the numbers stays for good, so it must be nowhere and able to do
// nothing: this process may change its root, unmount what it came from, or give
// up its privileges. It is the reading end of a pipe that nobody writes to.
// Every process that starts children may make one, and it cannot be filled,
// which a memfd, an eventfd or a socket could. A descriptor of a directory, of
// O_PATH too, would lead out of a later chroot(2), and keep its file system
// from being unmounted.
//
// A pipe also has an inode of its own, as an eventfd or a pidfd has not. By it
// a number that is still held is known from one that other code has taken over,
// by closing all that it does not know, or by dup2(2). Such a number is that
// code's and never touched again. What happens between that look and the dup3
// cannot be seen: there is no call that does both. Code that closes what it
// does not know while another of its threads starts a program has that race
// with every library.

const (
	lowCount = 16 // numbers reserved
	lowLimit = 64 // a number below this is low: one word of the kernel's bitmap
)

// Low lends the low numbers of this process.
var Low Numbers

// Numbers is a block of low numbers, which is held by descriptors that can
// do nothing.
type Numbers struct {
	once sync.Once
	mu   sync.Mutex // guards what follows
	// A number that is never lent: the source to refill the others from.
	base   int
	holder object           // what holds the numbers
	free   []int            // held, and not lent
	lent   [lowLimit]object // what they were lent to; zero for all others
}

// object tells what a descriptor has open from anything else, as far as the
// kernel does: anonymous inodes, such as those of eventfds, are all the same.
type object struct {
	major, minor uint32
	ino          uint64
}

// objectOf returns what fd has open. It does not wait for a file system that
// does not answer.
func objectOf(fd int) (o object, ok bool) {
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st) != nil {
		return o, false
	}
	return object{st.Dev_major, st.Dev_minor, st.Ino}, true
}

// Reserve takes the block, once. Where there is none to be had, the library
// works without.
func (l *Numbers) Reserve() {
	l.once.Do(func() {
		l.mu.Lock() // another start may be before its own call of this
		defer l.mu.Unlock()
		fd, err := newHolder()
		if err != nil {
			return
		}
		l.base = fd
		holder, ok := objectOf(fd)
		for ok && len(l.free) < lowCount && fd < lowLimit {
			fd, err = unix.FcntlInt(uintptr(l.base), unix.F_DUPFD_CLOEXEC, lastStream+1)
			if err != nil {
				break
			}
			if fd < lowLimit {
				l.free = append(l.free, fd)
			} else {
				Close(fd)
			}
		}
		if len(l.free) < lowCount {
			// A table that is nearly full, a low limit, or a policy without
			// statx: leave the numbers to the program.
			for _, fd := range l.free {
				Close(fd)
			}
			l.free = nil
			Close(l.base)
			return
		}
		l.holder = holder
	})
}

// newHolder opens what is to hold the numbers.
func newHolder() (int, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, err
	}
	fd, err := AboveStreams(p[0])
	Close(p[1])
	return fd, err
}

// holds reports whether the number n is still held.
//
// Preconditions: l.mu is held.
func (l *Numbers) holds(n int) bool {
	o, ok := objectOf(n)
	return ok && o == l.holder
}

// takeFree takes a free number out of the block; -1 when there is none. It
// forgets those that other code has taken over.
//
// Preconditions: l.mu is held.
func (l *Numbers) takeFree() int {
	for last := len(l.free) - 1; last >= 0; last-- {
		n := l.free[last]
		l.free = l.free[:last]
		if l.holds(n) {
			return n
		}
	}
	return -1
}

// Move returns a low number for the descriptor fd, which is then closed, or
// fd itself when its number is low or no low one is free. The result is closed
// by Release.
func (l *Numbers) Move(fd int) int {
	if fd < lowLimit {
		return fd
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	borrower, ok := objectOf(fd)
	if !ok {
		return fd
	}
	n := l.takeFree()
	if n < 0 {
		return fd
	}
	if unix.Dup3(fd, n, unix.O_CLOEXEC) != nil {
		l.free = append(l.free, n)
		return fd
	}
	l.lent[n] = borrower
	Close(fd)
	return n
}

// Release closes a descriptor that Move returned. A number of the block is held
// again in the same step.
func (l *Numbers) Release(fd int) {
	if fd >= lowLimit {
		Close(fd)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	borrower := l.lent[fd]
	if borrower == (object{}) {
		Close(fd)
		return
	}
	l.lent[fd] = object{}
	if o, ok := objectOf(fd); !ok || o != borrower {
		return // other code has taken it over while it was lent
	}
	if !l.holds(l.base) {
		l.base = l.takeFree()
	}
	if l.base >= 0 && unix.Dup3(l.base, fd, unix.O_CLOEXEC) == nil {
		l.free = append(l.free, fd)
		return
	}
	Close(fd)
}

// Pipe returns a new pipe. The child gets the end for which childReads says so:
// it has a low number, where possible, and is closed by Release; the other end
// by Close.
func (l *Numbers) Pipe(childReads bool) (parent, child int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, os.NewSyscallError("pipe2(O_CLOEXEC)", err)
	}
	var errs [2]error
	for i := range p {
		p[i], errs[i] = AboveStreams(p[i])
	}
	if err := errors.Join(errs[:]...); err != nil {
		Close(p[0])
		Close(p[1])
		return -1, -1, err
	}
	parent, child = p[0], p[1]
	if childReads {
		parent, child = p[1], p[0]
	}
	return parent, l.Move(child), nil
}

// AboveStreams moves a new descriptor to a number above those of the standard
// streams, which this process may have closed. What is there would be inherited
// in their place. And package os takes a broken pipe under the numbers 1 and
// 2 for this process's own output, and ends the process. If there is no number
// left, fd is closed.
func AboveStreams(fd int) (int, error) {
	if fd > lastStream {
		return fd, nil
	}
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lastStream+1)
	Close(fd)
	return n, os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
}

// Close closes a descriptor of this package. The number is free afterwards
// whatever close says.
func Close(fd int) { _ = unix.Close(fd) }

// SetNonblock makes this process's end of a new pipe, or a pidfd, non-blocking,
// which does not fail.
func SetNonblock(fd int) { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK) }

// IsOpen reports whether fd is a descriptor of this process.
func IsOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// Limit returns the number that a descriptor of this process must be below.
// (RLIMIT_NOFILE)
func Limit() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(l.Cur)
}

// Dup returns a descriptor of this package's for what f has open.
func Dup(f *os.File) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dupErr error
	if conn.Control(func(n uintptr) { fd, dupErr = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, lastStream+1) }) != nil {
		return -1, os.ErrClosed
	}
	if dupErr != nil {
		return -1, dupErr
	}
	return Low.Move(fd), nil
}

// Open opens a file under a number that is no stream's; -1 with an error.
func Open(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("open("+strconv.Quote(path)+")", err)
	}
	return AboveStreams(fd)
}

// SetWindowSize sets the size of the terminal that fd has open, in characters.
func SetWindowSize(fd int, rows, cols uint16) error {
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
}
