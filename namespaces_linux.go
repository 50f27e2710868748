package spawn

import "github.com/virspawn/spawn/internal/child"

// ownMemory reports whether the child must not share this process's memory, because of what it does to state that belongs to
// the memory.
func (c *Command) ownMemory() bool { return false }

func (pl *plan) checkNamespaces() error { return nil }

func (pl *plan) joinNamespaces() {}

// startChild clones the child.
func (pl *plan) startChild() (child.Child, *child.Error) {
	return child.Start(pl.prog, pl.options)
}
