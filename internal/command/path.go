package command

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/virspawn/spawn/internal/secure"
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

// CheckPath refuses a relative program together with SetWorkingDirectory: of
// other libraries, some take it from the parent's directory and some from
// the program's.
func (c *Command) CheckPath() error {
	if !c.HasDir || c.PathSettled || !strings.Contains(c.Name, "/") || c.Name[0] == '/' || filepath.IsAbs(c.Name) {
		return nil
	}
	ours, err := Absolute(c.Name)
	if err != nil {
		ours = c.Name
	}
	dir, err := Absolute(c.Dir)
	if err != nil {
		dir = c.Dir
	}
	theirs := strings.TrimSuffix(dir, "/") + "/" + c.Name
	return &CallError{"SetWorkingDirectory", fmt.Errorf("the program %q is relative, and could be %q or %q; give New an absolute path", c.Name, ours, theirs)}
}

// Absolute returns path as seen from the parent's working directory.
func Absolute(path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	// Not os.Getwd, which believes $PWD: a path that leads to this directory
	// now, and that somebody else may exchange before it is used.
	dir, err := syscall.Getwd()
	// Not filepath.Join, which takes x/.. for nothing where x may be
	// a symbolic link.
	return dir + "/" + path, err
}

// search looks the program up in PATH, or in a process that runs setuid, whose
// caller has chosen PATH, in secure.Path.
func (c *Command) search() (string, error) {
	if secure.Mode() {
		return c.searchIn(secure.Path)
	}
	path, err := exec.LookPath(c.Name)
	if err == nil && !filepath.IsAbs(path) { // with GODEBUG=execerrdot=0
		err = exec.ErrDot
	}
	if errors.Is(err, exec.ErrNotFound) {
		err = errNotFound
	}
	if err != nil {
		return "", c.searchError("PATH", err)
	}
	return path, nil
}

// searchIn looks the program up in these directories, whatever PATH is.
func (c *Command) searchIn(dirs string) (string, error) {
	for _, dir := range strings.Split(dirs, ":") {
		path, err := exec.LookPath(dir + "/" + c.Name)
		if err == nil {
			return path, nil
		}
	}
	return "", c.searchError(dirs, errNotInSecurePath)
}

func (c *Command) searchError(where string, err error) error {
	var lookup *exec.Error
	if errors.As(err, &lookup) {
		err = lookup.Err
	}
	return &StartError{Op: "search in " + where, Path: c.Name, Err: err}
}
