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

func (c *Command) runChild(_ context.Context, method string, _ [3]stream) (Status, error) {
	return Status{ExitCode: -1}, errUnsupported(method)
}

func (c *Command) startChild(context.Context, [3]stream) (*Process, error) {
	defer c.closeParents()
	if c.firstFail != nil {
		return nil, c.firstFail
	}
	return nil, errUnsupported("Start")
}

func (c *Command) exec() error { return errUnsupported("Exec") }

func (c *Command) explain([3]stream) (string, error) { return "", errUnsupported("Explain") }

func setWindowSize(int, ptySize) error { return errors.ErrUnsupported }

// handle is nothing here: a Process is that of a dry run.
type handle struct{}

func (handle) signal(syscall.Signal) error { return errors.ErrUnsupported }

// tree is nothing here either.
type tree struct{}

func (p *Process) killLeftBehind() (killed bool) { return false }

func (g *gate) writeByte() {}

func (g *gate) close() {}

// sigContinue is no signal here.
const sigContinue = syscall.Signal(0)

// signalAll signals what the kill mode says.
//
// Preconditions: p.mu is held.
func (p *Process) signalAll(sig syscall.Signal) error { return p.dry.deliver(sig) }
