package spawn

import (
	"slices"
	"time"
)

// wanted is a command: what is to run and how, as plain data.
type wanted struct {
	name    string
	argv0   text
	args    []text
	env     environment
	streams streams
	passed  []passedFD

	dir     string
	hasDir  bool
	umask   int // -1: as in the parent
	rlimits []rlimit
	ids     credentials

	caps        capabilities
	namespaces  namespaces
	confinement confinement
	sched       scheduling
	attrs       attributes
	mac         labels

	hook      string // the name of one that is registered; empty without
	hookArg   string
	handshake bool
	daemon    bool
	pidFile   string
	listen    []string // names of the descriptors from 3 on
	session   bool
	ownGroup  bool
	killMode  killMode
	grace     time.Duration
}

// killMode says what is signalled when a command is to end, with the numbers
// of the public type.
type killMode int

// The kill modes.
const (
	killProcess killMode = iota
	killGroup
	killTree
)

// newWanted returns a command with the defaults that are not zero.
func newWanted(name string, grace time.Duration) wanted {
	return wanted{name: name, umask: -1, grace: grace}
}

// clone returns an independent copy. Readers, writers, files and variables are
// shared.
func (c *wanted) clone() *wanted {
	d := *c
	d.args = slices.Clone(c.args)
	d.env.vars = slices.Clone(c.env.vars)
	d.passed = slices.Clone(c.passed)
	d.listen = slices.Clone(c.listen)
	d.rlimits = slices.Clone(c.rlimits)
	d.ids.groups = slices.Clone(c.ids.groups)
	d.namespaces = c.namespaces.clone()
	d.confinement = c.confinement.clone()
	d.sched = c.sched.clone()
	d.attrs = c.attrs.clone()
	return &d
}

// directory returns the directory in which the program starts; "" is where the
// parent is.
func (c *wanted) directory() string {
	if !c.hasDir && c.daemon {
		return "/"
	}
	return c.dir
}

// hasParentWork reports whether the child needs the parent to do something
// once it knows the child's pid.
func (c *wanted) hasParentWork() bool {
	return c.namespaces.isMapped() || c.listen != nil || c.pidFile != ""
}
