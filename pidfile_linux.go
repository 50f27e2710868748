package spawn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// pidFile is a pid file that a child is to have. It is written under another name; the child locks it and gives it its name, so that whoever
// opens it by that finds it complete and locked. The lock is fcntl's classic one, as libvirt's, which belongs to a process and not to
// those that inherit its descriptors, and which tells whose it is.
//
// Two that want to replace the same stale file exclude each other by a lock on that one.
type pidFile struct {
	path   string
	temp   string
	fd     int // of temp
	number int // in the child
	stale  int // the file to be replaced, locked; -1 without
}

// checkPidFile makes the file under its temporary name, unless another process holds the one that is there.
func (pl *plan) checkPidFile() error {
	if pl.cmd.pidFile == "" {
		return nil
	}
	path, err := filepath.Abs(pl.cmd.pidFile)
	if err != nil {
		return pl.pidFileError(err)
	}
	f := &pidFile{path: path, fd: -1}
	f.stale, err = lockStale(path)
	if err == nil {
		pl.pidFile = f // for release
		err = f.create()
	}
	if err != nil {
		return pl.pidFileError(err)
	}
	for f.number = stderr + 1; pl.cmd.passes(f.number); f.number++ {
	}
	pl.connect(f.fd, f.number)
	if pl.mode == inPlace {
		if err := f.write(os.Getpid()); err != nil {
			return pl.pidFileError(err)
		}
	}
	return nil
}

func (pl *plan) pidFileError(err error) error {
	return &StartError{Op: "pid file " + strconv.Quote(pl.cmd.pidFile), Path: pl.path, Err: err}
}

// lockStale opens and locks the file that is to be replaced; -1 when there is none.
func lockStale(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			return -1, nil
		}
		if err == nil {
			fd, err = aboveStreams(fd)
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		same, err := lockIfSame(fd, path)
		if same {
			return fd, nil
		}
		closeFD(fd)
		if err != nil {
			return -1, err
		}
	}
}

// lockIfSame locks fd and reports whether path is still that file.
func lockIfSame(fd int, path string) (bool, error) {
	var opened, named unix.Stat_t
	if err := unix.Fstat(fd, &opened); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	if opened.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, errors.New("not a regular file")
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	switch err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock); err {
	case nil:
	case unix.EAGAIN, unix.EACCES:
		return false, heldError(fd)
	default:
		return false, os.NewSyscallError("fcntl(F_OFD_SETLK)", err)
	}
	if err := unix.Lstat(path, &named); err != nil {
		if err == unix.ENOENT {
			err = nil
		}
		return false, os.NewSyscallError("lstat", err)
	}
	return opened.Dev == named.Dev && opened.Ino == named.Ino, nil
}

// heldError names the process that has locked fd: as the kernel does, or else, for a lock that is an open file's, as the file does.
func heldError(fd int) error {
	pid := 0
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock) == nil && lock.Type != unix.F_UNLCK {
		pid = int(lock.Pid)
	}
	if pid <= 0 {
		var b [20]byte // more than any pid
		n, _ := unix.Pread(fd, b[:], 0)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b[:max(0, n)])))
		if pid > 0 && unix.Kill(pid, 0) == unix.ESRCH {
			pid = 0
		}
	}
	if pid <= 0 {
		return fmt.Errorf("held by another process: %w", unix.EAGAIN)
	}
	return fmt.Errorf("held by process %d: %w", pid, unix.EAGAIN)
}

// create makes the file under a temporary name.
func (f *pidFile) create() error {
	dir, base := filepath.Split(f.path)
	for {
		temp := filepath.Join(dir, "."+base+"."+strconv.FormatUint(rand.Uint64(), 36))
		fd, err := unix.Open(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "create", Path: temp, Err: err}
		}
		f.temp = temp
		if fd, err = aboveStreams(fd); err != nil {
			return err
		}
		f.fd = low.move(fd)
		return os.NewSyscallError("fchmod", unix.Fchmod(f.fd, 0o644))
	}
}

// write writes the pid.
func (f *pidFile) write(pid int) error {
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

// takePidFile comes while this process's root and user are still there. The descriptor stays open in the program: closing it would
// give up the lock.
func (pl *plan) takePidFile() {
	f := pl.pidFile
	if f == nil {
		return
	}
	p := pl.prog
	lock := p.Alloc(binary.Size(unix.Flock_t{}))
	binary.NativeEndian.PutUint16(p.Bytes(lock, 2), unix.F_WRLCK)
	p.Add(unix.SYS_FCNTL, uintptr(f.number), unix.F_SETLK, lock)
	var flags uintptr
	if f.stale < 0 {
		flags = unix.RENAME_NOREPLACE
	}
	p.Add(unix.SYS_RENAMEAT2, atFDCWD, p.CString(f.temp), atFDCWD, p.CString(f.path), flags)
}

// lost returns who was faster, where that is known.
func (f *pidFile) lost() error {
	fd, err := lockStale(f.path)
	if fd >= 0 {
		closeFD(fd)
	}
	return err
}

// endPidFile ends the care for the pid file, if there is one.
func (pl *plan) endPidFile(runs bool) {
	if pl.pidFile != nil {
		pl.pidFile.done(runs)
		pl.pidFile = nil
	}
}

// done ends the care for the file. Unless the program runs, it is removed.
func (f *pidFile) done(runs bool) {
	if f.fd >= 0 && !runs {
		var ours, named unix.Stat_t
		if unix.Fstat(f.fd, &ours) == nil && unix.Lstat(f.path, &named) == nil && ours.Dev == named.Dev && ours.Ino == named.Ino {
			_ = unix.Unlink(f.path) // the child may have got so far
		}
	}
	if f.temp != "" && !runs {
		_ = unix.Unlink(f.temp) // it has its other name, perhaps
	}
	if f.fd >= 0 {
		low.release(f.fd)
	}
	if f.stale >= 0 {
		closeFD(f.stale)
	}
}
