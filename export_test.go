package spawn

import "context"

// What tests of package spawn reach into.

// inDryRun reports whether a function stands in for programs.
func inDryRun(ctx context.Context) bool { return dryRunFunc(ctx) != nil }

// isUnobserved reports whether a run of the command goes without a policy, an
// observer and a copy.
func isUnobserved(ctx context.Context, c *Command) bool {
	b, err := c.begin(ctx, false)
	b.observed.start(c.name, 1)
	b.observed.exit(Status{}, nil)
	return b.Command == c && b.observed == nil && err == nil
}
