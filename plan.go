package spawn

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/syndtr/gocapability/capability"
)

// notFound is a program that is in no directory of PATH. It is both of the errors that callers ask for.
type notFound struct{}

func (notFound) Error() string   { return "executable file not found in $PATH" }
func (notFound) Unwrap() []error { return []error{exec.ErrNotFound, syscall.ENOENT} }

// ready refuses a command that cannot run, or not any more.
func (c *Command) ready(ctx context.Context) error {
	if c.firstFail != nil {
		return c.firstFail
	}
	if ctx.Err() != nil {
		return &StartError{Op: "start", Path: c.name, Err: contextError(ctx)}
	}
	return nil
}

// checkWhole refuses what does not go together, whatever the machine: the program is to run in a child or, with exec, in place of this process.
func (c *Command) checkWhole(exec bool) error {
	n, a, caps := &c.namespaces, &c.attrs, &c.caps
	more := caps.ambient &^ caps.allowed
	switch {
	case n.isMapped() && n.fresh&UserNamespace == 0:
		return &badCall{"SetUIDMap", errors.New("without SetNamespaces(UserNamespace) there is nothing to map")}
	case exec && (n.fresh != 0 || n.joined != nil):
		return &badCall{"Exec", errors.New("namespaces are for a child")}
	case a.pty != nil && a.tty != nil:
		return &badCall{"SetPTY", errors.New("by SetControllingTTY the session has another terminal")}
	case exec && a.cgroup != "":
		return &badCall{"Exec", errors.New("a cgroup is for a child")}
	case a.chroot != "" && !filepath.IsAbs(c.name):
		return &badCall{"SetChroot", fmt.Errorf("the program %q has no absolute path in the new root", c.name)}
	case c.daemon && a.deathSignal != 0:
		return &badCall{"SetParentDeathSignal", errors.New("a daemon outlives its parent")}
	case c.daemon && a.pty != nil:
		return &badCall{"SetPTY", errors.New("a daemon has no terminal")}
	case c.daemon && a.tty != nil:
		return &badCall{"SetControllingTTY", errors.New("a daemon has no terminal")}
	case caps.limited && more != 0:
		name := capability.Cap(bits.TrailingZeros64(more)).String()
		return &badCall{"SetAmbientCaps", fmt.Errorf("CAP_%s is not among those of AllowCap", strings.ToUpper(name))}
	case c.daemon && !exec:
		return checkAlone("Daemonize", c.streams)
	}
	return nil
}

// resolve returns the path of the program to execute.
func (c *Command) resolve() (string, error) {
	switch {
	case c.found != "":
		return c.found, nil
	case c.dry:
		return c.name, nil
	}
	if !strings.Contains(c.name, "/") {
		return c.search()
	}
	if c.directory() == "" {
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
	if err := c.checkStartOnly(method); err != nil {
		return err
	}
	for n, s := range streams {
		if s.kind == streamPipe {
			return &badCall{method, errors.New("the pipe for " + streamNames[n] + " has its other end on a Process; use Start")}
		}
	}
	return nil
}
