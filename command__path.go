package spawn

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// resolve returns the path of the program to execute.
func (c *wanted) resolve() (string, error) {
	if !strings.Contains(c.name, "/") {
		return c.search()
	}
	if c.directory() == "" {
		return c.name, nil
	}
	path, err := absolute(c.name)
	if err != nil {
		return "", &startFailure{Op: "getcwd()", Path: c.name, Err: err}
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
func (c *wanted) search() (string, error) {
	path, err := exec.LookPath(c.name)
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
		return "", &startFailure{Op: "search in PATH", Path: c.name, Err: err}
	}
	return path, nil
}
