package spawn

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// RequireHandshake makes the child stop when everything is applied and nothing is left but no_new_privs, Landlock, the seccomp filter
// and execve. [Command.Start] returns when there is a child; [Process.HandshakeWait] waits until it has stopped. The caller can then
// do what has to be done before the program runs: look at the child in /proc, tell others of its pid, write its limits elsewhere.
// [Process.HandshakeNotify] lets the program run.
//
// The child waits without a thread of this process. It ends without running the program when this process ends, when the context
// ends, and on [Process.Abort] or [Process.Wait] before the notification; the error is then a [*StartError]. A [Process] that
// is dropped before leaves its child waiting until the context or this process ends.
//
// All signals but SIGKILL and SIGSTOP are blocked in the child until the program runs, and then take effect. Where the child has a hook
// ([Command.SetPreExecHook]), or needs a helper for another reason, SIGHUP, SIGINT, SIGQUIT, SIGABRT and SIGTERM end it at once.
//
// A program that is being written when it is to run fails at once (ETXTBSY), where other commands try a few times: the child that was looked at is
// the only one.
//
// The running call must be [Command.Start]. A command that also changes credentials, loads a seccomp filter or sets the
// out-of-memory score, and any before Linux 5.16, gives its child a copy of this process's memory, which takes longer the larger it is.
// (virCommandRequireHandshake)
func (c *Command) RequireHandshake() *Command {
	c.handshake = true
	return c
}

// gate is where a child waits for the handshake.
type gate struct {
	ready   chan struct{} // closed when the child is there, or never will be
	passed  chan struct{} // closed by notify
	started chan struct{} // closed when the program runs, or never will
	err     error         // why it never will, once started is closed

	mu       sync.Mutex
	fd       int // a byte lets the child go on; its closing ends it; -1 once closed
	notified bool
}

func newGate() *gate {
	return &gate{ready: make(chan struct{}), passed: make(chan struct{}), started: make(chan struct{}), fd: -1}
}

// notify lets the child go on.
func (g *gate) notify() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.notified {
		return errNotified
	}
	g.notified = true
	close(g.passed)
	g.writeByte()
	return nil
}

// open reports whether the child was let go on.
func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.notified
}

// settle says that the program runs, or why it never will.
func (g *gate) settle(err error) {
	g.err = err
	g.close()
	close(g.started) // first, so that who waits for the other sees why
	if !isClosed(g.ready) {
		close(g.ready)
	}
}

var (
	errNoHandshake = errors.New("the command has no RequireHandshake")
	errNotified    = errors.New("the child was notified already")
	errUnnotified  = errors.New("Wait was called before HandshakeNotify")
)

// endedAtGate is the error of a child that was killed before it was let go on.
func endedAtGate(path string, status Status) error {
	return &StartError{Op: "handshake", Path: path, Err: fmt.Errorf("the child ended before HandshakeNotify: %s", status)}
}

// HandshakeWait waits until the child has stopped before its program, with everything applied. If it cannot get there, the
// error is the [*StartError] that says why, and there is no child left. When ctx ends, the wait does, with the error of ctx, and
// the child stays as it is: HandshakeWait can be called again, any number of times. It is an error for a command without
// [Command.RequireHandshake]. (virCommandHandshakeWait)
func (p *Process) HandshakeWait(ctx context.Context) error {
	needContext(ctx)
	g := p.gate
	if g == nil {
		return &badCall{"HandshakeWait", errNoHandshake}
	}
	select {
	case <-g.ready:
	default:
		select {
		case <-g.ready:
		case <-ctx.Done():
			return contextError(ctx)
		}
	}
	select {
	case <-g.started:
		return g.err
	default:
		return nil
	}
}

// HandshakeNotify lets the child run its program, and returns when it does, that is, when execve can no longer fail, or the
// [*StartError] that says why it does not. It can be called before the child has stopped, which it then does not do. A second
// call, and one for a command without [Command.RequireHandshake], is an error. (virCommandHandshakeNotify)
func (p *Process) HandshakeNotify() error {
	g := p.gate
	if g == nil {
		return &badCall{"HandshakeNotify", errNoHandshake}
	}
	if err := g.notify(); err != nil {
		return &badCall{"HandshakeNotify", err}
	}
	<-g.started
	return g.err
}
