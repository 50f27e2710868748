package spawn

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// gate is where a child waits for the handshake.
type gate struct {
	ready   chan struct{} // closed when the child is there, or never will be
	passed  chan struct{} // closed by notify
	started chan struct{} // closed when the program runs, or never will
	err     error         // why it never will, once started is closed

	mu       sync.Mutex
	pipe     io.WriteCloser // a byte lets the child go on; its closing ends it; nil without, and once closed
	notified bool
}

func newGate() *gate {
	return &gate{ready: make(chan struct{}), passed: make(chan struct{}), started: make(chan struct{})}
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
	if g.pipe != nil {
		_, _ = g.pipe.Write([]byte{1}) // EPIPE when the child has ended, which settle will say
		g.closePipe()
	}
	return nil
}

// open reports whether the child was let go on.
func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.notified
}

// closePipe lets go of the child.
//
// Preconditions: g.mu is held.
func (g *gate) closePipe() {
	if g.pipe != nil {
		g.pipe.Close()
		g.pipe = nil
	}
}

// settle says that the program runs, or why it never will.
func (g *gate) settle(err error) {
	g.err = err
	g.mu.Lock()
	g.closePipe()
	g.mu.Unlock()
	close(g.started) // first, so that who waits for the other sees why
	if !isClosed(g.ready) {
		close(g.ready)
	}
}

var (
	errNotified   = errors.New("the child was notified already")
	errUnnotified = fmt.Errorf("%s was called before HandshakeNotify", "Wait")
)

// endedAtGate is the error of a child that was killed before it was let go on.
func endedAtGate(path string, status status) error {
	return &startFailure{Op: "handshake", Path: path, Err: fmt.Errorf("the child ended before HandshakeNotify: %s", status)}
}
