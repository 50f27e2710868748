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
// The child has a descriptor that cannot write, or the program, whatever it is
// confined to, could put another pid there, which others signal. Such
// a descriptor takes no lock for writing. One for reading excludes those too,
// and so all who ask whether the file is taken. But whoever may read a file can
// take one. So nobody else may read this file: its mode is 0600, and a lock is
// the program's, that of another start, or of somebody who may write the file.
//
// Two that want to replace the same stale file exclude each other by a lock on
// that one. See claim for a file that others may read.
type PidFile struct {
	path   string
	temp   string
	parent int // of temp, to write it; -1 without
	fd     int // of temp, for the child; -1 without
	number int // in the child
	stale  claim

	pretended bool // there is no file
}

// claim is the right to replace a stale file. One start at a time has it.
//
// Of a file that others may read, because another program has made it or
// somebody has changed its mode, a lock for reading may be anybody's. It counts
// only while there is a process with the pid in the file, which only those who
// may write it can choose. Where such a lock does not count, the start takes
// another one for reading, which those of others do not exclude, and by which
// it is seen that there is somebody. Among those who do so the lock of a second
// file decides, which nobody else may open.
type claim struct {
	fd    int // the file, locked; -1 without
	guard int // the second file, locked; -1 without
	// Its path. Once this process has become the program nobody is there to
	// remove it; it then stays for the next one.
	guardPath string
}

// noClaim is where there is no file.
var noClaim = claim{fd: -1, guard: -1}

// release gives the right up.
func (c claim) release() {
	if c.guard >= 0 {
		if isFile(c.guardPath, c.guard) {
			_ = unix.Unlink(c.guardPath)
		}
		descriptor.Close(c.guard)
	}
	if c.fd >= 0 {
		descriptor.Close(c.fd)
	}
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
	f := &PidFile{path: path, parent: -1, fd: -1, stale: noClaim}
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

// lockStale opens and locks the file that is to be replaced, if there is one.
func lockStale(path string) (claim, error) {
	if holdsLock(path) {
		return noClaim, heldBy(os.Getpid())
	}
	for {
		fd, err := openOwn(path, 0)
		if errors.Is(err, unix.ENOENT) {
			return noClaim, nil
		}
		if err != nil {
			return noClaim, err
		}
		c, same, err := lockIfSame(fd, path)
		if same {
			return c, nil
		}
		c.release()
		if err != nil {
			return noClaim, err
		}
	}
}

// openOwn opens a file for reading and writing, without following a link and
// without waiting for anybody.
func openOwn(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_CLOEXEC, 0o600)
	if err == nil {
		fd, err = descriptor.AboveStreams(fd)
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
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

// lockIfSame locks fd, which is the claim's in any case, and reports whether it
// could and path is still that file.
func lockIfSame(fd int, path string) (c claim, same bool, err error) {
	c = noClaim
	c.fd = fd
	var opened unix.Stat_t
	if err := unix.Fstat(fd, &opened); err != nil {
		return c, false, os.NewSyscallError("fstat", err)
	}
	if opened.Mode&unix.S_IFMT != unix.S_IFREG {
		return c, false, errors.New("not a regular file")
	}
	err = lockFile(fd)
	if _, held := err.(heldBy); held && opened.Mode&0o077 != 0 {
		err = c.lockPublic(path, err)
	}
	return c, err == nil && isFile(path, fd), err
}

// lockPublic locks a file that others may read, and that is held, unless the
// lock is one that counts. Then it returns the error held.
func (c *claim) lockPublic(path string, held error) error {
	locked, err := setLock(c.fd, unix.F_RDLCK)
	if err != nil {
		return err
	}
	if !locked { // somebody has locked it for writing
		return held
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(c.fd), unix.F_OFD_GETLK, &lock); err != nil {
		return os.NewSyscallError("fcntl(F_OFD_GETLK)", err)
	}
	// Pid 0 is a process of another pid namespace: the pid in the file may be
	// from there.
	if lock.Type != unix.F_UNLCK && (lock.Pid == 0 || isRunning(c.fd)) {
		return held
	}
	dir, base := filepath.Split(path)
	c.guardPath = dir + "." + base[:min(len(base), 200)] + ".lock"
	for {
		guard, err := openOwn(c.guardPath, unix.O_CREAT)
		if err == nil {
			if err = lockFile(guard); err == nil && isFile(c.guardPath, guard) {
				c.guard = guard
				return nil
			}
			descriptor.Close(guard)
		}
		if err != nil {
			return err
		}
	}
}

// isRunning reports whether there is a process with the pid in the file.
func isRunning(fd int) bool {
	var text [32]byte
	n, _ := unix.Pread(fd, text[:], 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:max(n, 0)])))
	return err == nil && pid > 0 && unix.Kill(pid, 0) != unix.ESRCH
}

// setLock locks fd for its open file, not for the process: goroutines exclude
// each other too. It reports whether it could.
func setLock(fd int, kind int16) (bool, error) {
	lock := unix.Flock_t{Type: kind}
	err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock)
	if err == unix.EAGAIN || err == unix.EACCES {
		return false, nil
	}
	return err == nil, os.NewSyscallError("fcntl(F_OFD_SETLK)", err)
}

// lockFile locks fd for writing, which any other lock excludes.
func lockFile(fd int) error {
	for {
		if locked, err := setLock(fd, unix.F_WRLCK); locked || err != nil {
			return err
		}
		lock := unix.Flock_t{Type: unix.F_WRLCK}
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
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		fd, err = descriptor.AboveStreams(fd)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	f.fd = descriptor.Low.Move(fd)
	return nil
}

// create makes the file under a temporary name, and opens it a second time, for
// the child.
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
		if f.parent, err = descriptor.AboveStreams(fd); err != nil {
			return err
		}
		break
	}
	if err := unix.Fchmod(f.parent, 0o600); err != nil {
		// whatever the umask is
		return os.NewSyscallError("fchmod", err)
	}
	fd, err := unix.Open(f.temp, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		fd, err = descriptor.AboveStreams(fd)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: f.temp, Err: err}
	}
	f.fd = descriptor.Low.Move(fd)
	if !isFile(f.temp, f.parent) || !isFile(f.temp, f.fd) {
		return &os.PathError{Op: "open", Path: f.temp, Err: errors.New("replaced by another process")}
	}
	return nil
}

// Write writes the pid.
func (f *PidFile) Write(pid int) error {
	text := strconv.Itoa(pid) + "\n"
	n, err := unix.Pwrite(f.parent, []byte(text), 0)
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
	binary.NativeEndian.PutUint16(p.Bytes(lock, 2), unix.F_RDLCK)
	p.Add(program.SysFcntl, uintptr(f.number), unix.F_SETLK, lock)
	var flags uintptr
	if f.stale.fd < 0 {
		flags = unix.RENAME_NOREPLACE
	}
	p.Add(unix.SYS_RENAMEAT2, atFDCWD, p.CString(f.temp), atFDCWD, p.CString(f.path), flags)
}

// Lost returns who was faster, where that is known.
func (f *PidFile) Lost() error {
	c, err := lockStale(f.path)
	c.release()
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
	if f.parent >= 0 {
		if !runs {
			f.remove()
		}
		descriptor.Close(f.parent)
	}
	if f.fd >= 0 {
		descriptor.Low.Release(f.fd)
	}
	f.stale.release()
}

// remove removes the file, if the child has got so far as to give it its name.
// Others may take it for stale by now, and replace it, so that it needs the
// same lock. A thread that was to become the program may still hold that one.
func (f *PidFile) remove() {
	err := lockFile(f.parent)
	if (err == nil || err == heldBy(os.Getpid())) && isFile(f.path, f.parent) {
		_ = unix.Unlink(f.path)
	}
}
