package spawn

import (
	"os"
	"slices"
	"strconv"
	"strings"
)

// environment is what the program gets: everything, until the first call about it; then only what was added.
type environment struct {
	set  bool
	vars []variable
}

type variable struct {
	name   string
	value  text
	passed bool // it is this process's
}

// put adds a variable, or changes it where it stands: a name occurs once and the last value wins.
func (e *environment) put(v variable) {
	e.set = true
	for i := range e.vars {
		if e.vars[i].name == v.name {
			e.vars = slices.Clone(e.vars) // a running process may show the old ones
			e.vars[i] = v
			return
		}
	}
	e.vars = append(e.vars, v)
}

// Variables by which systemd tells a service of its sockets. (sd_listen_fds(3))
const (
	listenPID   = "LISTEN_PID"
	listenPIDFD = "LISTEN_PIDFDID" // another name of LISTEN_PID's process, since systemd 258
	listenFDs   = "LISTEN_FDS"
	listenNames = "LISTEN_FDNAMES"
)

// replaces reports whether a variable, given by its name or as name=value, gives way to those for sockets.
func (c *wanted) replaces(variable string) bool {
	if c.listen == nil {
		return false
	}
	name, _, _ := strings.Cut(variable, "=")
	return name == listenPID || name == listenPIDFD || name == listenFDs || name == listenNames
}

// variables returns what the command sets in the environment but LISTEN_PID, which is not known before there is a child.
func (c *wanted) variables() []variable {
	if c.listen == nil {
		return c.env.vars
	}
	vars := slices.DeleteFunc(slices.Clone(c.env.vars), func(v variable) bool { return c.replaces(v.name) })
	return append(vars,
		variable{name: listenFDs, value: text{s: strconv.Itoa(len(c.listen))}},
		variable{name: listenNames, value: text{s: strings.Join(c.listen, ":")}})
}

// argv returns the arguments, from argument 0 on, and which of them are secrets.
func (c *wanted) argv() (args []string, secret []bool) {
	args, secret = []string{c.name}, []bool{false}
	if c.argv0.s != "" {
		args[0] = c.argv0.s
	}
	for _, a := range c.args {
		args, secret = append(args, a.s), append(secret, a.secret)
	}
	return args, secret
}

// eachVariable calls f for each variable of the program, as name=value.
func (c *wanted) eachVariable(f func(pair string, secret, passed bool)) {
	if !c.env.set {
		for _, pair := range os.Environ() {
			if !c.replaces(pair) {
				f(pair, false, true)
			}
		}
	}
	for _, v := range c.variables() {
		f(v.name+"="+v.value.s, v.value.secret, v.passed)
	}
}
