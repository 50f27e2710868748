//go:build !linux

package spawn

import (
	"context"
	"errors"
	"fmt"
)

func (c *runCall) unsupported() error {
	return fmt.Errorf("spawn: %s: programs run on Linux only: %w", c.method, errors.ErrUnsupported)
}

func runChild(_ context.Context, c runCall) outcome {
	return outcome{status: unknown, never: c.unsupported()}
}

func startChild(_ context.Context, c runCall) (*running, error) {
	c.command.closeParents()
	return nil, c.unsupported()
}

func execute(c runCall) error { return c.unsupported() }

func explain(c runCall) (string, error) { return "", c.unsupported() }
