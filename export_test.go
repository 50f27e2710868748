package spawn

import "context"

// What the tests of this package reach into.

// AnyDryContext is whether any context has a DryRunFunc.
var AnyDryContext = &anyDryContext

// LastLine is what an error shows of standard error.
var LastLine = lastLine

// InDryRun reports whether a function stands in for programs.
func InDryRun(ctx context.Context) bool { return dryRunFunc(ctx) != nil }

// IsUnobserved reports whether a run of the command goes without a policy, an
// observer and a copy.
func IsUnobserved(ctx context.Context, c *Command) bool {
	b, err := c.begin(ctx, false)
	b.observed.start(c.want.Name, 1)
	b.observed.exit(Status{}, nil)
	return b.Command == c && b.observed == nil && err == nil
}
