//go:build linux

package run

import (
	"bytes"
	"strconv"
	"strings"
	"syscall"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"golang.org/x/sys/unix"
)

// lookAhead returns the error that execve will return, as far as that can be
// known, for a program that is to replace this process behind a filter: there
// this process may not survive an execve that fails. What it does not know it
// lets pass.
func (r *run) lookAhead() error {
	if r.Command.Confinement.Filter == nil {
		return nil
	}
	if errno := r.lookAt(r.Path, 0); errno != 0 {
		return &command.StartError{Op: r.Program.Step(r.Program.Len() - 1), Path: r.Path, Err: errno}
	}
	return nil
}

// maxInterpreters is how often the interpreter of a script may be
// a script. (execve(2))
const maxInterpreters = 5

// lookAt looks at a program, or at a script's interpreter, and what that needs.
func (r *run) lookAt(path string, depth int) syscall.Errno {
	if depth > maxInterpreters {
		return unix.ELOOP
	}
	fd, errno := r.openProgram(path, unix.O_PATH)
	ids := &r.Command.IDs
	sameUser := !ids.SetUID && !ids.SetGID && !ids.SetGroups && !r.Command.Caps.ChangesSets()
	switch {
	case errno == unix.ENOENT || errno == unix.ENOTDIR || errno == unix.ELOOP || errno == unix.ENAMETOOLONG:
		return errno
	case errno == unix.EACCES && sameUser:
		return errno
	case errno != 0:
		return 0
	}
	defer descriptor.Close(fd)
	var stat unix.Stat_t
	if unix.Fstat(fd, &stat) != nil {
		return 0
	}
	const anybody = unix.S_IXUSR | unix.S_IXGRP | unix.S_IXOTH
	var fs unix.Statfs_t
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Mode&anybody == 0 || unix.Fstatfs(fd, &fs) == nil && fs.Flags&unix.ST_NOEXEC != 0 {
		return unix.EACCES
	}
	if sameUser && unix.Faccessat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.X_OK, unix.AT_EACCESS) == unix.EACCES {
		return unix.EACCES
	}
	return r.lookIn(path, depth)
}

// lookIn looks at the first line of a script.
func (r *run) lookIn(path string, depth int) syscall.Errno {
	fd, errno := r.openProgram(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errno != 0 {
		return 0 // it can be executed without being read
	}
	defer descriptor.Close(fd)
	b := make([]byte, 256) // of which the kernel takes no more
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return 0
	}
	line, isScript := bytes.CutPrefix(b[:n], []byte("#!"))
	end := bytes.IndexByte(line, '\n')
	if !isScript || end < 0 && n == len(b) {
		return 0
	}
	if end >= 0 {
		line = line[:end]
	}
	interpreter, _, _ := strings.Cut(strings.TrimLeft(strings.ReplaceAll(string(line), "\t", " "), " "), " ")
	switch {
	case interpreter == "":
		return unix.ENOEXEC
	case !strings.HasPrefix(interpreter, "/"):
		return 0 // in a directory that is yet to be entered
	}
	return r.lookAt(interpreter, depth+1)
}

// openProgram opens a file that the program will see under this path.
func (r *run) openProgram(path string, flags int) (int, syscall.Errno) {
	flags |= unix.O_CLOEXEC
	var fd int
	var err error
	if root := r.Command.Attributes.Chroot; root != "" {
		var dir int
		dir, err = unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, unix.EINVAL // which chroot will say
		}
		defer descriptor.Close(dir)
		fd, err = unix.Openat2(dir, path, &unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_IN_ROOT})
	} else {
		fd, err = unix.Open(path, flags, 0)
	}
	errno, _ := err.(syscall.Errno)
	return fd, errno
}
