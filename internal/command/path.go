package command

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Resolve returns the path of the program to execute.
func (c *Command) Resolve() (string, error) {
	if !strings.Contains(c.Name, "/") {
		return c.search()
	}
	if c.Directory() == "" {
		return c.Name, nil
	}
	path, err := Absolute(c.Name)
	if err != nil {
		return "", &StartError{Op: "getcwd()", Path: c.Name, Err: err}
	}
	return path, nil
}

// Absolute returns path as seen from the parent's working directory.
func Absolute(path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	dir, err := os.Getwd()
	// Not filepath.Join, which takes x/.. for nothing where x may be
	// a symbolic link.
	return dir + "/" + path, err
}

// search looks the program up in PATH.
func (c *Command) search() (string, error) {
	path, err := exec.LookPath(c.Name)
	var lookup *exec.Error
	switch {
	case err == nil && !filepath.IsAbs(path): // with GODEBUG=execerrdot=0
		err = exec.ErrDot
	case errors.Is(err, exec.ErrNotFound):
		err = errNotFound
	case errors.As(err, &lookup):
		err = lookup.Err
	}
	if err != nil {
		return "", &StartError{Op: "search in PATH", Path: c.Name, Err: err}
	}
	return path, nil
}
