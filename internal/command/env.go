package command

import (
	"slices"
	"strconv"
	"strings"

	"github.com/virspawn/spawn/internal/secure"
)

// Environment is what the program gets: everything, until the first call about
// it; then only what was added.
type Environment struct {
	Set  bool
	Vars []Variable
}

// Variable is a variable of the environment that the command sets.
type Variable struct {
	Name   string
	Value  Text
	Passed bool // it is the parent's
}

// Put adds a variable, or changes it where it stands: a name occurs once and
// the last value wins.
func (e *Environment) Put(v Variable) {
	e.Set = true
	for i := range e.Vars {
		if e.Vars[i].Name == v.Name {
			// A running process may show the old ones.
			e.Vars = slices.Clone(e.Vars)
			e.Vars[i] = v
			return
		}
	}
	e.Vars = append(e.Vars, v)
}

// Variables by which systemd tells a service of its sockets. (sd_listen_fds(3))
const (
	ListenPID = "LISTEN_PID"
	// Another name of LISTEN_PID's process, since systemd 258.
	listenPIDFD = "LISTEN_PIDFDID"
	listenFDs   = "LISTEN_FDS"
	listenNames = "LISTEN_FDNAMES"
)

// Replaces reports whether a variable, given by its name or as name=value,
// gives way to those for sockets.
func (c *Command) Replaces(variable string) bool {
	if c.Listen == nil {
		return false
	}
	name, _, _ := strings.Cut(variable, "=")
	return name == ListenPID || name == listenPIDFD || name == listenFDs || name == listenNames
}

// Variables returns what the command sets in the environment but LISTEN_PID,
// which is not known before there is a child.
func (c *Command) Variables() []Variable {
	if c.Listen == nil {
		return c.Env.Vars
	}
	vars := slices.DeleteFunc(slices.Clone(c.Env.Vars), func(v Variable) bool { return c.Replaces(v.Name) })
	return append(vars,
		Variable{Name: listenFDs, Value: Text{Str: strconv.Itoa(len(c.Listen))}},
		Variable{Name: listenNames, Value: Text{Str: strings.Join(c.Listen, ":")}})
}

// Argv returns the arguments, from argument 0 on, and which of them
// are secrets.
func (c *Command) Argv() (args []string, secret []bool) {
	args, secret = []string{c.Name}, []bool{false}
	if c.Argv0.Str != "" {
		args[0] = c.Argv0.Str
	}
	for _, a := range c.Args {
		args, secret = append(args, a.Str), append(secret, a.Secret)
	}
	return args, secret
}

// EachVariable calls f for each variable of the program, as name=value.
func (c *Command) EachVariable(f func(pair string, secret, passed bool)) {
	if !c.Env.Set {
		for _, pair := range secure.Environ() {
			if !c.Replaces(pair) {
				f(pair, false, true)
			}
		}
	}
	for _, v := range c.Variables() {
		f(v.Name+"="+v.Value.Str, v.Value.Secret, v.Passed)
	}
}
