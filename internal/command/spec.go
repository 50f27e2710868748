// Package command is what is wanted, as plain data, with what does not go
// together in it, and its text. It makes no system calls but those of a look
// for the program.
//
// Every room may import it, and it imports none of them.
package command

import (
	"slices"
	"time"
)

// Command is a command: what is to run and how, as plain data.
type Command struct {
	Name    string
	Argv0   Text
	Args    []Text
	Env     Environment
	Streams Streams
	Passed  []PassedFD

	PathSettled bool // a policy has been told which program it is

	Dir     string
	HasDir  bool
	Umask   int // -1: as in the parent
	Rlimits []Rlimit
	IDs     Credentials

	Caps        Capabilities
	Namespaces  Namespaces
	Confinement Confinement
	Scheduling  Scheduling
	Attributes  Attributes
	Labels      Labels

	Hook      string // the name of one that is registered; empty without
	HookArg   string
	Handshake bool
	Daemon    bool
	PidFile   string
	Listen    []string // names of the descriptors from 3 on
	Session   bool
	OwnGroup  bool
	KillMode  KillMode
	Grace     time.Duration
}

// KillMode says what is signalled when a command is to end, with the numbers
// of the public type.
type KillMode int

// The kill modes.
const (
	KillProcess KillMode = iota
	KillGroup
	KillTree
)

// New returns a command with the defaults that are not zero.
func New(name string, grace time.Duration) Command {
	return Command{Name: name, Umask: -1, Grace: grace}
}

// Clone returns an independent copy. Readers, writers, files and variables
// are shared.
func (c *Command) Clone() *Command {
	d := *c
	d.Args = slices.Clone(c.Args)
	d.Env.Vars = slices.Clone(c.Env.Vars)
	d.Passed = slices.Clone(c.Passed)
	d.Listen = slices.Clone(c.Listen)
	d.Rlimits = slices.Clone(c.Rlimits)
	d.IDs.Groups = slices.Clone(c.IDs.Groups)
	d.Namespaces = c.Namespaces.clone()
	d.Confinement = c.Confinement.clone()
	d.Scheduling = c.Scheduling.clone()
	d.Attributes = c.Attributes.clone()
	return &d
}

// Directory returns the directory in which the program starts; "" is where the
// parent is.
func (c *Command) Directory() string {
	if !c.HasDir && c.Daemon {
		return "/"
	}
	return c.Dir
}

// WaitsForParent reports whether the child waits for a word of the parent's
// before it runs the program.
func (c *Command) WaitsForParent() bool { return c.Handshake || c.Daemon || c.HasParentWork() }

// HasParentWork reports whether the child needs the parent to do something
// once it knows the child's pid.
func (c *Command) HasParentWork() bool {
	return c.Namespaces.IsMapped() || c.Listen != nil || c.PidFile != ""
}
