package process

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/virspawn/spawn/internal/command"
)

// Gate is where a child waits for the handshake.
type Gate struct {
	Ready   chan struct{} // closed when the child is there, or never will be
	Passed  chan struct{} // closed by Notify
	Started chan struct{} // closed when the program runs, or never will
	Err     error         // why it never will, once Started is closed

	mu sync.Mutex
	// A byte written here lets the child go on, and closing it ends the child.
	// It is nil without a pipe, and once closed; guarded by mu.
	Pipe     io.WriteCloser
	notified bool // guarded by mu
}

// NewGate returns a gate at which no child has arrived yet.
func NewGate() *Gate {
	return &Gate{Ready: make(chan struct{}), Passed: make(chan struct{}), Started: make(chan struct{})}
}

// Notify lets the child go on.
func (g *Gate) Notify() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.notified {
		return errNotified
	}
	g.notified = true
	close(g.Passed)
	if g.Pipe != nil {
		// The error is EPIPE when the child has ended, which Settle will say.
		_, _ = g.Pipe.Write([]byte{1})
		g.closePipe()
	}
	return nil
}

// Open reports whether the child was let go on.
func (g *Gate) Open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.notified
}

// closePipe lets go of the child.
//
// Preconditions: g.mu is held.
func (g *Gate) closePipe() {
	if g.Pipe != nil {
		g.Pipe.Close()
		g.Pipe = nil
	}
}

// Settle says that the program runs, or why it never will.
func (g *Gate) Settle(err error) {
	g.Err = err
	g.mu.Lock()
	g.closePipe()
	g.mu.Unlock()
	close(g.Started) // first, so that who waits for the other sees why
	if !IsClosed(g.Ready) {
		close(g.Ready)
	}
}

var (
	errNotified   = errors.New("the child was notified already")
	errUnnotified = fmt.Errorf("%s was called before HandshakeNotify", "Wait")
)

// EndedAtGate is the error of a child that was killed before it was let go on.
func EndedAtGate(path string, status Status) error {
	return &command.StartError{Op: "handshake", Path: path, Err: fmt.Errorf("the child ended before HandshakeNotify: %s", status)}
}
