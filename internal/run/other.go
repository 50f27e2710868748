//go:build !linux

package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/virspawn/spawn/internal/process"
)

// unsupported is the error of every call here.
func (c *Call) unsupported() error {
	return fmt.Errorf("spawn: %s: programs run on Linux only: %w", c.Method, errors.ErrUnsupported)
}

// Run runs nothing: it returns the error.
func Run(_ context.Context, c Call) process.Outcome {
	return process.Outcome{Status: process.Unknown, Never: c.unsupported()}
}

// Start starts nothing: it returns the error.
func Start(_ context.Context, c Call) (*process.Process, error) {
	c.Command.CloseParents()
	return nil, c.unsupported()
}

// Exec replaces nothing: it returns the error.
func Exec(c Call) error { return c.unsupported() }

// Explain has no program to show: it returns the error.
func Explain(c Call) (string, error) { return "", c.unsupported() }
