package spawn

import (
	"context"
	"sync/atomic"

	"github.com/virspawn/spawn/internal/command"
)

// SetPolicy calls fn before any command of your process starts. The function it
// returns restores the previous policy.
//
// With nil, the default, nobody is asked. A policy guards a daemon against its
// own mistakes. It binds all code of your process that runs commands by this
// package, and nothing else.
//
// fn gets a copy of the command, as all methods have left it. If fn returns an
// error, the command is refused: the running call returns a [*StartError] whose
// Op is "SetPolicy". Or fn changes the copy, by [Command.SetNoNewPrivs] for
// example: what it sets is what runs. A bad call there refuses the command too.
// The caller's Command stays as it is.
//
// [Command.Path] is the very path that is executed: PATH is not searched a
// second time. Files, readers and writers are the caller's. The copy is fn's
// until fn returns.
//
// fn is called once for each [Command.Run], [Command.Start], [Command.Exec] and
// all that are like them. [Command.Explain] calls it too, and shows what fn has
// changed. So does a dry run, so a policy can be tested without programs. In a
// dry run Path is as given to [New], and [DryRunCall.RunReal] asks again, with
// the path that was found.
//
// fn is not called for a command that is refused anyway. The reason can be
// a bad call, a context that has ended, or a program that is in no directory
// of PATH.
//
// fn is called in the goroutine of the running call, and for several commands
// at once if they run at once. Start waits for it too. A panic in fn is the
// caller's, and nothing has been started. fn must not run commands with the
// same policy: that would ask it again, without end. Without a policy a run
// pays one load from memory.
func SetPolicy(fn func(*Command) error) (restore func()) {
	var p *func(*Command) error
	if fn != nil {
		p = &fn
	}
	old := processPolicy.Swap(p)
	return func() { processPolicy.Store(old) }
}

var processPolicy atomic.Pointer[func(*Command) error]

// ask asks the policy. It returns the command as the policy has left it, or the
// one that was refused.
func (c *Command) ask(ctx context.Context, policy func(*Command) error, dry bool) (*Command, error) {
	if err := c.ready(ctx); err != nil {
		// Not left to the running call: it might find ctx as good as new.
		c.want.CloseParents()
		return c, err
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
	if err := c.want.CheckPath(); err != nil {
		return err
	}
	c.want.PathSettled = true
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
