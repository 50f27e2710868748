// Package dry stands in for package run: no child is made, and a function says
// what the program does. Everything else is as for real.
//
// Only package spawn and the tests import it.
package dry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/process"
	"github.com/virspawn/spawn/internal/transfer"
)

// Call is a running call in which a function stands in for the program.
type Call struct {
	Command *command.Command // nobody changes it any more
	Streams command.Streams
	Program Func
	Watcher process.Watcher // nil: nobody is told
}

// Func says what a program does. It is called before anything else of the
// program happens; what it returns is the program.
type Func func(*Program) (program func() Result)

// Result is what a program has done, when its function has returned.
type Result struct {
	Stdout, Stderr string // what it writes last
	ExitCode       int
	Signal         syscall.Signal // that ends it in place of an exit; 0 without
	Err            error          // why it could not be started
}

// Program is a program without a child: a function says what it does.
type Program struct {
	cmd     *command.Command
	Streams command.Streams
	program func() Result
	result  Result // once returned is closed
	p       *process.Process
	watcher process.Watcher // nil: nobody is told

	Context context.Context // of the program
	cancel  context.CancelCauseFunc

	running chan struct{} // closed when it is known that the program runs
	// Closed when the function has returned, and the output is written.
	returned chan struct{}
	killed   chan struct{} // closed when a signal has ended the program
	// Closed when the program has ended, by itself or not.
	over chan struct{}
	// Closed when the program runs or could not be started.
	begun    chan struct{}
	startErr error // why not, once begun is closed

	Input *dryInput
	// The outputs of stdout and stderr; one for both where they go to the same.
	outputs [3]*dryOutput
	screen  *dryOutput // what the terminal shows; nil without

	// Guarded by p.Mu.
	sig       syscall.Signal // that has ended the program
	signalled bool
	// The program gets signals by this; nil where it does nothing about them.
	signals chan os.Signal
	pending []syscall.Signal
}

// fakePID is below the pids of dry runs. Linux has none as high; Windows has,
// but no odd ones.
const fakePID = 1 << 30

var dryRuns atomic.Int32

// Run runs a command to its end.
func Run(ctx context.Context, call Call) process.Outcome {
	d, err := newDryRun(ctx, call)
	if err != nil {
		return process.Outcome{Status: process.Unknown, Never: err}
	}
	d.p.Starting = nil // what keeps the caller waiting is the end
	d.serve(ctx)
	return d.p.Outcome
}

// Start starts a command.
func Start(ctx context.Context, call Call) (*process.Process, error) {
	d, err := newDryRun(ctx, call)
	if err != nil {
		return nil, err
	}
	go d.serve(ctx)
	if d.p.Gate == nil {
		<-d.begun
		err = d.startErr
	}
	if err != nil {
		<-d.p.Done
		d.closeCallersEnds()
		return nil, err
	}
	return d.p, nil
}

// Exec runs a command that would have taken the place of its parent.
func Exec(call Call) process.Outcome {
	c := call.Command
	err := c.CheckWhole(true)
	check := func(setter string, data []byte) {
		if err == nil && len(data) > pipeHolds {
			err = command.ErrTooLong("Exec", setter, len(data), pipeHolds)
		}
	}
	data, _ := c.Streams[command.Stdin].Value.([]byte)
	check("SetInput", data)
	for i := range c.Passed {
		check("SetSendBuffer", c.Passed[i].Data)
	}
	if err != nil {
		return process.Outcome{Status: process.Unknown, Never: err}
	}
	return Run(context.Background(), call)
}

// pipeHolds is what fits into a pipe, in bytes. Exec cannot leave more to
// the program.
const pipeHolds = 64 << 10

// newDryRun checks the command as far as that does not depend on the machine,
// and opens its pipes.
func newDryRun(ctx context.Context, call Call) (*Program, error) {
	c := call.Command
	if err := c.CheckWhole(false); err != nil {
		return nil, err
	}
	if err := checkFiles(c, call.Streams); err != nil {
		return nil, err
	}
	d := &Program{cmd: c, Streams: call.Streams, watcher: call.Watcher}
	for _, ch := range []*chan struct{}{&d.running, &d.returned, &d.killed, &d.over, &d.begun} {
		*ch = make(chan struct{})
	}
	d.p = &process.Process{
		Grace: c.Grace, Target: d, Starting: notStarted{},
		PID: fakePID + 1 + 2*int(dryRuns.Add(1)), Done: make(chan struct{}), Ended: make(chan struct{}),
	}
	if c.Handshake {
		d.p.Gate = process.NewGate()
	}
	if err := d.openStreams(); err != nil {
		return nil, err
	}
	// It ends when the program has been told so, and not a moment before.
	d.Context, d.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	d.program = call.Program(d)
	return d, nil
}

// PID returns the pid of the program, which no process can have.
func (d *Program) PID() int { return d.p.PID }

// Merged reports whether both outputs go to the same.
func (d *Program) Merged() bool { return d.outputs[command.Stderr] == d.outputs[command.Stdout] }

// Flush says that the program runs, and writes to its outputs.
func (d *Program) Flush(out, errs string) {
	d.start()
	d.write(out, errs, false)
}

// GotSignal reports whether the program has got a signal so far.
func (d *Program) GotSignal() bool {
	d.p.Mu.Lock()
	defer d.p.Mu.Unlock()
	return d.signalled
}

// notStarted is a program of which it is not known whether it can be started.
type notStarted struct{}

// LeftMemory reports false: a signal can still keep the program from
// being started.
func (notStarted) LeftMemory() bool { return false }

// checkFiles refuses files that have been closed.
func checkFiles(c *command.Command, streams command.Streams) error {
	for n, s := range streams {
		switch f, _ := s.Value.(*os.File); s.Kind {
		case command.StreamInherit:
			if descriptor.Of(ownStream(n)) < 0 {
				return command.ErrClosedStream(c.Name, n)
			}
		case command.StreamFile:
			if descriptor.Of(f) < 0 {
				return command.ErrClosedFile(c.Name, f, n)
			}
		}
	}
	for i := range c.Passed {
		if p := &c.Passed[i]; p.File != nil && descriptor.Of(p.File) < 0 {
			return command.ErrClosedFile(c.Name, p.File, p.FD)
		}
	}
	if tty := c.Attributes.TTY; tty != nil && descriptor.Of(tty) < 0 {
		return &command.StartError{Op: "SetControllingTTY", Path: c.Name, Err: os.ErrClosed}
	}
	for _, j := range c.Namespaces.Joined {
		if descriptor.Of(j.File) < 0 {
			return &command.StartError{Op: "JoinNamespace", Path: c.Name, Err: os.ErrClosed}
		}
	}
	return nil
}

// ownStream returns a standard stream of the parent.
func ownStream(n int) *os.File { return [...]*os.File{os.Stdin, os.Stdout, os.Stderr}[n] }

// openStreams connects the standard streams.
func (d *Program) openStreams() error {
	d.Input = &dryInput{d: d, chunks: make(chan []byte), done: make(chan struct{})}
	switch s := d.Streams[command.Stdin]; s.Kind {
	case command.StreamData:
		d.Input.data = *bytes.NewReader(s.Value.([]byte))
	case command.StreamReader:
		d.Input.callers.Reader = s.Value.(io.Reader)
		d.Input.source = &d.Input.callers
	case command.StreamFile:
		d.Input.source = s.Value.(*os.File)
	case command.StreamPipe:
		r, w, err := os.Pipe()
		if err != nil {
			return d.failed(err)
		}
		d.Input.source, d.Input.pipe = r, r
		d.p.Pipes[command.Stdin] = &process.End{Pipe: transfer.Pipe{File: w}}
	}
	if err := d.openTerminal(); err != nil {
		d.closePipes()
		return d.failed(err)
	}
	for n := command.Stdout; n <= command.Stderr; n++ {
		o, err := d.openOutput(n)
		if err != nil {
			d.closePipes()
			return d.failed(err)
		}
		d.outputs[n] = o
	}
	return nil
}

// openTerminal puts a pair of pipes in place of a terminal, if the
// command has one.
func (d *Program) openTerminal() error {
	if d.cmd.Attributes.PTY == nil {
		return nil
	}
	t := &process.Terminal{Dry: d.p, Done: d.p.Done}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	t.Out.File, d.p.PTY = r, t
	d.screen = &dryOutput{d: d, lock: make(chan struct{}, 1), w: w, pipe: w}
	if d.Streams[command.Stdin].Kind != command.StreamTTY {
		return nil
	}
	r, t.In.File, err = os.Pipe()
	if err != nil {
		return err
	}
	d.Input.source, d.Input.pipe = r, r
	return nil
}

func (d *Program) openOutput(n int) (*dryOutput, error) {
	s := d.Streams[n]
	if s.Kind == command.StreamTTY {
		return d.screen, nil
	}
	if n == command.Stderr && (s.Kind == command.StreamMerge || command.SameTarget(s, d.Streams[command.Stdout])) {
		return d.outputs[command.Stdout], nil
	}
	o := &dryOutput{d: d, lock: make(chan struct{}, 1)}
	switch s.Kind {
	case command.StreamString, command.StreamBytes, command.StreamTail:
		o.captured, o.out.Tail = true, s.Kind == command.StreamTail
	case command.StreamWriter:
		o.callers.Writer = s.Value.(io.Writer)
		o.w = &o.callers
	case command.StreamFile:
		o.w = s.Value.(*os.File)
	case command.StreamInherit:
		o.w = ownStream(n)
	case command.StreamPipe:
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		o.w, o.pipe = w, w
		d.p.Pipes[n] = &process.End{Pipe: transfer.Pipe{File: r}}
	}
	return o, nil
}

// closePipes closes all ends of all pipes.
func (d *Program) closePipes() {
	if d.Input.pipe != nil {
		d.Input.pipe.Close()
	}
	for _, o := range d.outputs {
		if o != nil && o.pipe != nil {
			o.pipe.Close()
		}
	}
	if d.screen != nil {
		d.screen.pipe.Close()
	}
	d.closeCallersEnds()
}

// closeCallersEnds closes the ends that a Process would have given to
// the caller.
func (d *Program) closeCallersEnds() {
	for _, e := range d.p.Pipes {
		if e != nil {
			e.Close()
		}
	}
	if t := d.p.PTY; t != nil {
		t.Out.Close()
		if t.In.File != nil {
			t.In.Close()
		}
	}
}

// failed makes an error of the parent's a start's.
func (d *Program) failed(err error) error {
	if start := (*command.StartError)(nil); errors.As(err, &start) {
		return err
	}
	return &command.StartError{Op: "start", Path: d.cmd.Name, Err: err}
}

// serve does everything until the program has ended.
func (d *Program) serve(ctx context.Context) {
	p, w := d.p, d.watcher
	unwatch := p.Watch(ctx)
	err := d.begin()
	d.startErr = err
	switch {
	case err != nil:
		p.NeverRan(err)
		if w != nil {
			w.Failed(err)
		}
	case w != nil:
		w.Started(d.cmd.Name, p.PID)
	}
	close(d.begun)
	if p.Gate != nil {
		p.Gate.Settle(err)
	}
	d.waitEnd(err)
	if unwatch != nil {
		unwatch()
	}
	if w != nil {
		w.Over(&p.Outcome)
	}
	close(p.Done)
}

// begin returns when the program runs, or why it could not be started.
func (d *Program) begin() error {
	if g := d.p.Gate; g != nil {
		close(g.Ready)
		select {
		case <-g.Passed:
		case <-d.killed:
			return d.endedBefore()
		}
	}
	go d.callFunc()
	select {
	case <-d.running:
	case <-d.returned:
	case <-d.killed:
		return d.endedBefore()
	}
	if process.IsClosed(d.running) {
		return nil
	}
	return d.callError()
}

// endedBefore returns the error of a program that has been ended before it ran,
// if it was.
func (d *Program) endedBefore() error {
	p := d.p
	p.Mu.Lock()
	defer p.Mu.Unlock()
	switch {
	case p.Killed:
		return &command.StartError{Op: "start", Path: d.cmd.Name, Err: p.Ending}
	case p.Gate != nil && !p.Gate.Open():
		return process.EndedAtGate(d.cmd.Name, process.Status{ExitCode: -1, Signal: d.sig})
	}
	return nil
}

// callFunc calls the function.
func (d *Program) callFunc() {
	defer close(d.returned)
	finished := false
	defer func() {
		if !finished {
			d.result.Err = d.failed(errNotReturned)
		}
	}()
	d.result = d.program()
	finished = true
	if d.callError() == nil {
		d.start()
		d.write(d.result.Stdout, d.result.Stderr, true)
	}
}

var errNotReturned = errors.New("the DryRunFunc has ended its goroutine")

// callError returns why the function says that the program was not started.
//
// Preconditions: the function has returned.
func (d *Program) callError() error {
	switch r := &d.result; {
	case r.Err != nil:
		return r.Err
	case r.Signal == 0 && (r.ExitCode < 0 || r.ExitCode > 255):
		return d.failed(fmt.Errorf("the DryRunFunc's exit code %d is not in 0 to 255", r.ExitCode))
	}
	return nil
}

// start says that the program runs.
func (d *Program) start() {
	d.p.Mu.Lock()
	defer d.p.Mu.Unlock()
	d.startLocked()
}

// startLocked is start for who has the lock.
//
// Preconditions: d.p.Mu is held.
func (d *Program) startLocked() {
	p := d.p
	if process.IsClosed(d.running) || d.sig != 0 {
		return
	}
	p.Starting = nil
	close(d.running)
	for _, sig := range d.pending {
		_ = d.deliver(sig)
	}
}

// StartHandling says that the program runs, as start does, and that it handles
// signals itself. Both at once: who sees it run may send one.
func (d *Program) StartHandling() <-chan os.Signal {
	d.p.Mu.Lock()
	defer d.p.Mu.Unlock()
	d.startLocked()
	if d.signals == nil {
		d.signals = make(chan os.Signal, 16)
	}
	return d.signals
}

// deliver gives the program a signal.
// Preconditions: d.p.Mu is held and the program has not ended.
func (d *Program) deliver(sig syscall.Signal) error {
	d.signalled = d.signalled || sig != 0
	switch {
	case d.sig != 0: // it is ending
	case d.p.Starting != nil && canHandle(sig): // blocked until it runs
		d.pending = append(d.pending, sig)
	case d.signals != nil && canHandle(sig):
		select {
		case d.signals <- sig:
		default:
		}
	case endsProgram(sig):
		d.sig = sig
		close(d.killed)
	}
	if d.p.Ending != nil || d.sig != 0 {
		d.cancel(d.p.Ending)
	}
	return nil
}

// waitEnd waits until the program has ended, and says how. If startErr is not
// nil it never ran.
func (d *Program) waitEnd(startErr error) {
	p := d.p
	if startErr == nil {
		select {
		case <-d.returned:
		case <-d.killed:
		}
	}
	p.Mu.Lock()
	p.Buried(process.Status{})
	sig := d.sig
	p.Mu.Unlock()
	d.cancel(nil)
	close(d.over)
	cut, err := d.endTransfers()
	tail := d.takeOutput()
	if startErr == nil && sig == 0 {
		startErr = d.callError() // which came too late for Start
	}
	switch {
	case startErr != nil:
		p.NeverRan(startErr)
		return
	case sig != 0:
		p.Outcome.Status = process.Status{ExitCode: -1, Signal: sig}
	case d.result.Signal != 0:
		p.Outcome.Status = process.Status{ExitCode: -1, Signal: d.result.Signal}
	default:
		p.Outcome.Status = process.Status{ExitCode: d.result.ExitCode}
	}
	p.Conclude(tail, err, cut)
}

// Signal signals the program.
func (d *Program) Signal(sig syscall.Signal) error { return d.deliver(sig) }

// SignalAll signals the program, which has no others.
func (d *Program) SignalAll(sig syscall.Signal) error { return d.deliver(sig) }

// GoOn lets the program go on, which never stops but may ask for signals.
func (d *Program) GoOn() { _ = d.deliver(sigContinue) }

// GiveUp does nothing: SIGKILL ends every dry run.
func (d *Program) GiveUp() {}

// KillLeftBehind finds nothing that is left.
func (d *Program) KillLeftBehind() (killed bool) { return false }
