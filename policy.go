package spawn

import (
	"context"
	"sync/atomic"

	"github.com/virspawn/spawn/internal/command"
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

// ask asks the policy. It returns the command as the policy has left it, or the one that was refused.
func (c *Command) ask(ctx context.Context, policy func(*Command) error, dry bool) (*Command, error) {
	if c.ready(ctx) != nil {
		return c, nil // which the running call says
	}
	d, allowed := c.Clone(), false
	defer func() {
		if !allowed {
			d.want.CloseParents()
		}
	}()
	if err := d.find(dry); err != nil {
		return c, public(err)
	}
	err := policy(d)
	d = d.Clone() // which the policy has no hand in any more
	if err == nil {
		err = d.firstFail
	}
	if err != nil {
		return d, &StartError{Op: "SetPolicy", Path: d.options.Path, Err: err}
	}
	allowed = true
	return d, nil
}

// find settles the path of the program, once and for all.
func (c *Command) find(dry bool) (err error) {
	if dry {
		c.options.Path = c.want.Name
		return nil
	}
	path, err := c.want.Resolve()
	if err != nil {
		c.options.Path = ""
		return err
	}
	// Also without SetWorkingDirectory, which the policy may call.
	c.options.Path, err = command.Absolute(path)
	if err != nil {
		return &command.StartError{Op: "getcwd()", Path: c.want.Name, Err: err}
	}
	return nil
}
