//go:build !linux

package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/virspawn/spawn/internal/process"
)

func (c *Call) unsupported() error {
	return fmt.Errorf("spawn: %s: programs run on Linux only: %w", c.Method, errors.ErrUnsupported)
}

func Run(_ context.Context, c Call) process.Outcome {
	return process.Outcome{Status: process.Unknown, Never: c.unsupported()}
}

func Start(_ context.Context, c Call) (*process.Process, error) {
	c.Command.CloseParents()
	return nil, c.unsupported()
}

func Exec(c Call) error { return c.unsupported() }

func Explain(c Call) (string, error) { return "", c.unsupported() }
