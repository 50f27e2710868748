package spawn

import (
	"context"
	"os"
	"sync/atomic"
)

// SetPolicy has fn asked about every command of this process before anything starts, until restore is called, which puts back what was there
// before; with nil, the default, nobody is asked. It is a guard for a daemon, against its own mistakes: all code of this process that runs commands by
// this package is bound by it, and nothing else is.
//
// fn gets the command in a copy of its own, after all methods about it have been called. An error refuses the command: the running call returns it in a
// [*StartError] whose Op is "SetPolicy". Or fn changes the copy, by [Command.SetNoNewPrivs] for example: what it sets is what runs, and a bad call
// there refuses the command too. The caller's Command stays as it is. [Command.Path] is the very path that is executed: PATH is not searched a second time.
// Files, readers and writers are the caller's. The copy is fn's until it returns.
//
// It is called once for each [Command.Run], [Command.Start], [Command.Exec] and all that are like them, and [Command.Explain], which shows what
// fn has changed. In a dry run it is called too, so that it can be tested without programs; there Path is as given to [New], and [DryRunCall.RunReal] asks
// again, with the path that was found. A command that a bad call has made unusable, or whose context has ended, or whose program is in no directory of PATH is
// refused without it.
//
// fn is called in the goroutine of the running call, for several commands at once where they run at once; Start waits for it too. A panic there is the
// caller's, and nothing has been started. It must not run commands with the same policy, which would ask it again, without end.
// Without a policy a run pays for it with one load from memory.
func SetPolicy(fn func(*Command) error) (restore func()) {
	var p *func(*Command) error
	if fn != nil {
		p = &fn
	}
	old := processPolicy.Swap(p)
	return func() { processPolicy.Store(old) }
}

var processPolicy atomic.Pointer[func(*Command) error]

// begin is what every running call does first: it asks the policy, and finds out who observes. It returns the command to run, which may be a copy, and what
// stands in for programs, nil when they run. On an error the files of [CloseParent] have been closed.
func (c *Command) begin(ctx context.Context, exec bool) (_ *Command, dry DryRunFunc, err error) {
	needContext(ctx)
	dry = dryRunFunc(ctx)
	if fn := processPolicy.Load(); fn != nil {
		c, err = c.ask(ctx, *fn, dry != nil)
	}
	if o := c.observation(ctx, dry != nil); o != nil {
		o.event.Exec = exec
		d := *c
		d.observed = o
		c = &d
		if err != nil {
			o.fail(err)
		}
	}
	return c, dry, err
}

// needContext panics where the caller has given no context: a mistake in the program, which would show itself deep inside, or only sometimes.
func needContext(ctx context.Context) {
	if ctx == nil {
		panic("spawn: nil Context")
	}
}

// ask asks the policy. It returns the command as the policy has left it, or the one that was refused.
func (c *Command) ask(ctx context.Context, policy func(*Command) error, dry bool) (*Command, error) {
	if c.ready(ctx) != nil {
		return c, nil // which the running call says
	}
	d, allowed := c.Clone(), false
	defer func() {
		if !allowed {
			d.closeParents()
		}
	}()
	if err := d.find(dry); err != nil {
		return c, err
	}
	err := policy(d)
	d = d.Clone() // which the policy has no hand in any more
	if err == nil {
		err = d.firstFail
	}
	if err != nil {
		return d, &StartError{Op: "SetPolicy", Path: d.found, Err: err}
	}
	allowed = true
	return d, nil
}

// find settles the path of the program, once and for all.
func (c *Command) find(dry bool) (err error) {
	c.found = ""
	if dry {
		c.found = c.name
		return nil
	}
	path, err := c.resolve()
	if err != nil {
		return err
	}
	// Also without SetWorkingDirectory, which the policy may call.
	c.found, err = absolute(path)
	if err != nil {
		return &StartError{Op: "getcwd()", Path: c.name, Err: err}
	}
	return nil
}

// Path returns the program. In a function of [SetPolicy] it is the absolute path that will be executed, as found in PATH, or seen from this process's
// working directory, or in the new root directory after [Command.SetChroot]; in a dry run, and everywhere else, it is as it was given to [New].
// It is not cleaned and symbolic links are not followed: /usr/sbin/../bin/sh is possible, and what a link leads to may change. A rule about directories compares
// with [path/filepath.Clean], and allows only directories in which nobody else can write.
func (c *Command) Path() string {
	if c.found != "" {
		return c.found
	}
	return c.name
}

// Args returns the arguments as the program gets them, from argument 0 on, secrets too. For a log, see [Command.String].
func (c *Command) Args() []string {
	args, _ := c.argv()
	return args
}

// Env returns the environment as the program gets it, as name=value: all of this process's variables as long as nothing was said about it. Secrets
// are there too. LISTEN_PID (see [Command.AddListenFD]) is not, because the pid is not known.
func (c *Command) Env() []string {
	var env []string
	c.eachVariable(func(pair string, _, _ bool) { env = append(env, pair) })
	return env
}

// Dir returns what was given to [Command.SetWorkingDirectory], empty for this process's own.
func (c *Command) Dir() string { return c.dir }

// argv returns the arguments, from argument 0 on, and which of them are secrets.
func (c *Command) argv() (args []string, secret []bool) {
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
func (c *Command) eachVariable(f func(pair string, secret, passed bool)) {
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
