package spawn

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// notFound is a program that is in no directory of PATH. It is both of the errors that callers ask for.
type notFound struct{}

func (notFound) Error() string   { return "executable file not found in $PATH" }
func (notFound) Unwrap() []error { return []error{exec.ErrNotFound, syscall.ENOENT} }

// resolve returns the path of the program to execute.
func (c *Command) resolve() (string, error) {
	if !strings.Contains(c.name, "/") {
		return c.search()
	}
	if !c.hasDir {
		return c.name, nil
	}
	path, err := absolute(c.name)
	if err != nil {
		return "", &StartError{Op: "getcwd()", Path: c.name, Err: err}
	}
	return path, nil
}

// absolute returns path as seen from this process's working directory.
func absolute(path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	dir, err := os.Getwd()
	// Not filepath.Join, which takes x/.. for nothing where x may be a symbolic link.
	return dir + "/" + path, err
}

// search looks the program up in PATH.
func (c *Command) search() (string, error) {
	path, err := exec.LookPath(c.name)
	var lookup *exec.Error
	switch {
	case err == nil && !filepath.IsAbs(path): // with GODEBUG=execerrdot=0
		err = exec.ErrDot
	case errors.Is(err, exec.ErrNotFound):
		err = notFound{}
	case errors.As(err, &lookup):
		err = lookup.Err
	}
	if err != nil {
		return "", &StartError{Op: "search in PATH", Path: c.name, Err: err}
	}
	return path, nil
}

// checkCall refuses what the running call, which returns no Process, cannot serve.
func (c *Command) checkCall(method string, streams [3]stream) error {
	if c.firstFail != nil {
		return c.firstFail
	}
	if err := c.checkHandshake(method); err != nil {
		return err
	}
	for n, s := range streams {
		if s.kind == streamPipe {
			return &badCall{method, errors.New("the pipe for " + streamNames[n] + " has its other end on a Process; use Start")}
		}
	}
	return nil
}
