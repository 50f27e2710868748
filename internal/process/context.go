package process

import (
	"context"
	"errors"
	"fmt"
)

// ContextError returns what ended ctx, with its cause where that says more. It
// is never nil, also for a context that says again that it has not ended.
func ContextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if err == nil {
		err = context.Canceled
	}
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
