//go:build linux

package plan

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// PidFile is a pid file that a child is to have. It is written under another
// name; the child locks it and gives it its name, so that whoever opens it
// by that finds it complete and locked. The lock is fcntl's classic one, as
// libvirt's, which belongs to a process and not to those that inherit its
// descriptors, and which tells whose it is.
//
// Two that want to replace the same stale file exclude each other by a lock on
// that one.
type PidFile struct {
	path   string
	temp   string
	fd     int // of temp
	number int // in the child
	stale  int // the file to be replaced, locked; -1 without

	pretended bool // there is no file
}

// checkPidFile makes the file under its temporary name, unless another process
// holds the one that is there.
func (pl *Plan) checkPidFile() error {
	if pl.Command.PidFile == "" {
		return nil
	}
	path, err := command.Absolute(pl.Command.PidFile)
	if err != nil {
		return pl.PidFileError(err)
	}
	f := &PidFile{path: path, fd: -1, stale: -1}
	if pl.Options.Look {
		pl.PidFile = f
		err = f.pretend()
	} else if f.stale, err = lockStale(path); err == nil {
		pl.PidFile = f // for Release
		err = f.create()
	}
	if err != nil {
		return pl.PidFileError(err)
	}
	for f.number = command.Stderr + 1; pl.Command.Passes(f.number); f.number++ {
	}
	pl.connect(f.fd, f.number)
	if pl.Mode == InPlace {
		if err := f.Write(os.Getpid()); err != nil {
			return pl.PidFileError(err)
		}
	}
	return nil
}

// PidFileError makes an error about the pid file a StartError.
func (pl *Plan) PidFileError(err error) error {
	return &command.StartError{Op: "pid file " + strconv.Quote(pl.Command.PidFile), Path: pl.Path, Err: err}
}

// lockStale opens and locks the file that is to be replaced; -1 when there
// is none.
func lockStale(path string) (int, error) {
	if holdsLock(path) {
		return -1, heldBy(os.Getpid())
	}
	for {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			return -1, nil
		}
		if err == nil {
			fd, err = descriptor.AboveStreams(fd)
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		same, err := lockIfSame(fd, path)
		if same {
			return fd, nil
		}
		descriptor.Close(fd)
		if err != nil {
			return -1, err
		}
	}
}

// holdsLock reports whether the parent itself has locked the file, which
// would lose that lock by being opened and closed. It looks at the descriptors,
// for the device in /proc/locks is not that of stat(2) on every file system.
// (fcntl(2), proc_pid_fdinfo(5))
func holdsLock(path string) bool {
	var named, opened unix.Stat_t
	if unix.Lstat(path, &named) != nil {
		return false
	}
	// Where this directory is missing, no lock is seen.
	entries, _ := os.ReadDir("/proc/self/fdinfo")
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil || unix.Fstat(n, &opened) != nil || opened.Dev != named.Dev || opened.Ino != named.Ino {
			continue
		}
		info, _ := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		for line := range strings.Lines(string(info)) {
			if strings.HasPrefix(line, "lock:") && strings.Contains(line, " POSIX ") {
				return true
			}
		}
	}
	return false
}

// lockIfSame locks fd and reports whether path is still that file.
func lockIfSame(fd int, path string) (bool, error) {
	var opened unix.Stat_t
	if err := unix.Fstat(fd, &opened); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	if opened.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, errors.New("not a regular file")
	}
	if err := lockFile(fd); err != nil {
		return false, err
	}
	return isFile(path, fd), nil
}

// lockFile locks fd for its open file, not for the process: goroutines exclude
// each other too.
func lockFile(fd int) error {
	for {
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock)
		if err != unix.EAGAIN && err != unix.EACCES {
			return os.NewSyscallError("fcntl(F_OFD_SETLK)", err)
		}
		lock = unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock); err != nil {
			return os.NewSyscallError("fcntl(F_OFD_GETLK)", err)
		}
		if lock.Type != unix.F_UNLCK { // else it has just become free
			return heldBy(int(lock.Pid))
		}
	}
}

// heldBy is the error for a file that the process pid has locked. The pid is
// not positive where the kernel does not say. The lock may be that of an open
// file, such as the one of another command that is replacing the file. Or the
// process may be in another pid namespace.
type heldBy int

// Error says who holds the file, where that is known.
func (pid heldBy) Error() string {
	if pid <= 0 {
		return "held by another process: " + unix.EAGAIN.Error()
	}
	return "held by process " + strconv.Itoa(int(pid)) + ": " + unix.EAGAIN.Error()
}

// Unwrap returns EAGAIN, which fcntl says of a file that is locked.
func (heldBy) Unwrap() error { return unix.EAGAIN }

// isFile reports whether path is the file that fd has open.
func isFile(path string, fd int) bool {
	var named, opened unix.Stat_t
	return unix.Lstat(path, &named) == nil && unix.Fstat(fd, &opened) == nil && named.Dev == opened.Dev && named.Ino == opened.Ino
}

// tempName returns a name in the directory of path.
func tempName(path string) string {
	dir, base := filepath.Split(path)
	return dir + "." + base[:min(len(base), 200)] + "." + strconv.FormatUint(rand.Uint64(), 36)
}

// pretend makes no file, for a program that is only to be looked at.
func (f *PidFile) pretend() error {
	f.pretended, f.temp = true, tempName(f.path)
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		fd, err = descriptor.AboveStreams(fd)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	f.fd = descriptor.Low.Move(fd)
	return nil
}

// create makes the file under a temporary name.
func (f *PidFile) create() error {
	for {
		temp := tempName(f.path)
		fd, err := unix.Open(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "create", Path: temp, Err: err}
		}
		f.temp = temp
		if fd, err = descriptor.AboveStreams(fd); err != nil {
			return err
		}
		f.fd = descriptor.Low.Move(fd)
		return os.NewSyscallError("fchmod", unix.Fchmod(f.fd, 0o644))
	}
}

// Write writes the pid.
func (f *PidFile) Write(pid int) error {
	text := strconv.Itoa(pid) + "\n"
	n, err := unix.Pwrite(f.fd, []byte(text), 0)
	if err == nil && n < len(text) {
		err = unix.ENOSPC
	}
	if err != nil {
		return &os.PathError{Op: "write", Path: f.temp, Err: err}
	}
	return nil
}

// takePidFile comes while the parent's root and user are still there. The
// descriptor stays open in the program: closing it would give up the lock.
func (pl *Plan) takePidFile() {
	f := pl.PidFile
	if f == nil {
		return
	}
	p := pl.Program
	lock := p.Alloc(binary.Size(unix.Flock_t{}))
	binary.NativeEndian.PutUint16(p.Bytes(lock, 2), unix.F_WRLCK)
	p.Add(program.SysFcntl, uintptr(f.number), unix.F_SETLK, lock)
	var flags uintptr
	if f.stale < 0 {
		flags = unix.RENAME_NOREPLACE
	}
	p.Add(unix.SYS_RENAMEAT2, atFDCWD, p.CString(f.temp), atFDCWD, p.CString(f.path), flags)
}

// Lost returns who was faster, where that is known.
func (f *PidFile) Lost() error {
	fd, err := lockStale(f.path)
	if fd >= 0 {
		descriptor.Close(fd)
	}
	return err
}

// EndPidFile ends the care for the pid file, if there is one.
func (pl *Plan) EndPidFile(runs bool) {
	if pl.PidFile != nil {
		pl.PidFile.done(runs)
		pl.PidFile = nil
	}
}

// done ends the care for the file. Unless the program runs, it is removed.
func (f *PidFile) done(runs bool) {
	if f.pretended {
		f.temp, runs = "", true
	}
	if f.temp != "" {
		// The file has its other name, unless the child ended before.
		_ = unix.Unlink(f.temp)
	}
	if f.fd >= 0 {
		if !runs {
			f.remove()
		}
		descriptor.Low.Release(f.fd)
	}
	if f.stale >= 0 {
		descriptor.Close(f.stale)
	}
}

// remove removes the file, if the child has got so far as to give it its name.
// Others may take it for stale by now, and replace it, so that it needs the
// same lock. A thread that was to become the program may still hold that one.
func (f *PidFile) remove() {
	err := lockFile(f.fd)
	if (err == nil || err == heldBy(os.Getpid())) && isFile(f.path, f.fd) {
		_ = unix.Unlink(f.path)
	}
}
