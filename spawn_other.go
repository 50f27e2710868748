//go:build !linux

package spawn

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

func errUnsupported(method string) error {
	return fmt.Errorf("spawn: %s: programs run on Linux only: %w", method, errors.ErrUnsupported)
}

func isOpen(int) bool { return false }

func openLimit() int { return 1024 }

func (c *Command) runStatus(_ context.Context, method string, streams [3]stream) (Status, error) {
	if err := c.checkCall(method, streams); err != nil {
		return Status{ExitCode: -1}, err
	}
	return Status{ExitCode: -1}, errUnsupported(method)
}

func (c *Command) start(context.Context, [3]stream) (*Process, error) {
	if c.firstFail != nil {
		return nil, c.firstFail
	}
	return nil, errUnsupported("Start")
}

func (c *Command) exec() error { return errUnsupported("Exec") }

func (c *Command) explain() (string, error) { return "", errUnsupported("Explain") }

// handle is nothing here: there is no Process.
type handle struct{}

func (handle) signal(syscall.Signal) error { return errors.ErrUnsupported }

// tree is nothing here either.
type tree struct{}

func (g *gate) notify() error { return errors.ErrUnsupported }

func (g *gate) close() {}

func (p *Process) end(error) error { return errors.ErrUnsupported }
