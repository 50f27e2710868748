package spawn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
)

// dryCall is a running call in which a function stands in for the program.
type dryCall struct {
	command *wanted // nobody changes it any more
	streams streams
	program dryFunc
	watcher watcher // nil: nobody is told
}

// dryFunc says what a program does. It is called before anything else of the
// program happens; what it returns is the program.
type dryFunc func(*dryRun) (program func() dryResult)

// dryResult is what a program has done, when its function has returned.
type dryResult struct {
	stdout, stderr string // what it writes last
	exitCode       int
	signal         syscall.Signal // that ends it in place of an exit; 0 without
	err            error          // why it could not be started
}

// dryRun is a program without a child: a function says what it does.
type dryRun struct {
	cmd     *wanted
	streams streams
	program func() dryResult
	result  dryResult // once returned is closed
	p       *running
	watcher watcher // nil: nobody is told

	ctx    context.Context // of the program
	cancel context.CancelCauseFunc

	running  chan struct{} // closed when it is known that the program runs
	returned chan struct{} // closed when the function has returned, and the output is written
	killed   chan struct{} // closed when a signal has ended the program
	over     chan struct{} // closed when the program has ended, by itself or not
	begun    chan struct{} // closed when the program runs or could not be started
	startErr error         // why not, once begun is closed

	input   *dryInput
	outputs [3]*dryOutput // of stdout and stderr; the same for both where they go to the same
	screen  *dryOutput    // what the terminal shows; nil without

	// Under p.mu.
	sig       syscall.Signal // that has ended the program
	signalled bool
	signals   chan os.Signal // by which the program gets signals; nil where it does nothing about them
	pending   []syscall.Signal
}

// fakePID is below the pids of dry runs. Linux has none as high; Windows has,
// but no odd ones.
const fakePID = 1 << 30

var dryRuns atomic.Int32

// runDry runs a command to its end.
func runDry(ctx context.Context, call dryCall) outcome {
	d, err := newDryRun(ctx, call)
	if err != nil {
		return outcome{status: unknown, never: err}
	}
	d.p.starting = nil // what keeps the caller waiting is the end
	d.serve(ctx)
	return d.p.outcome
}

// startDry starts a command.
func startDry(ctx context.Context, call dryCall) (*running, error) {
	d, err := newDryRun(ctx, call)
	if err != nil {
		return nil, err
	}
	go d.serve(ctx)
	if d.p.gate == nil {
		<-d.begun
		err = d.startErr
	}
	if err != nil {
		<-d.p.done
		d.closeCallersEnds()
		return nil, err
	}
	return d.p, nil
}

// execDry runs a command that would have taken the place of its parent.
func execDry(call dryCall) outcome {
	c := call.command
	err := c.checkWhole(true)
	// So much fits into a pipe.
	long := func(data []byte) bool { return len(data) > 64<<10 }
	if data, _ := c.streams[stdin].v.([]byte); err == nil && long(data) {
		err = errTooLong
	}
	for i := range c.passed {
		if err == nil && long(c.passed[i].data) {
			err = errTooLong
		}
	}
	if err != nil {
		return outcome{status: unknown, never: err}
	}
	return runDry(context.Background(), call)
}

// errTooLong is the error for data that Exec cannot leave to the program.
var errTooLong = &badCall{"Exec", errors.New("more data to read than a pipe holds, and nobody would be left to write it")}

// newDryRun checks the command as far as that does not depend on the machine,
// and opens its pipes.
func newDryRun(ctx context.Context, call dryCall) (*dryRun, error) {
	c := call.command
	if err := c.checkWhole(false); err != nil {
		return nil, err
	}
	if err := checkFiles(c, call.streams); err != nil {
		return nil, err
	}
	d := &dryRun{cmd: c, streams: call.streams, watcher: call.watcher}
	for _, ch := range []*chan struct{}{&d.running, &d.returned, &d.killed, &d.over, &d.begun} {
		*ch = make(chan struct{})
	}
	d.p = &running{
		grace: c.grace, target: d, starting: notStarted{},
		pid: fakePID + 1 + 2*int(dryRuns.Add(1)), done: make(chan struct{}), ended: make(chan struct{}),
	}
	if c.handshake {
		d.p.gate = newGate()
	}
	if err := d.openStreams(); err != nil {
		return nil, err
	}
	// It ends when the program has been told so, and not a moment before.
	d.ctx, d.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	d.program = call.program(d)
	return d, nil
}

// pid returns the pid of the program, which no process can have.
func (d *dryRun) pid() int { return d.p.pid }

// merged reports whether both outputs go to the same.
func (d *dryRun) merged() bool { return d.outputs[stderr] == d.outputs[stdout] }

// flush says that the program runs, and writes to its outputs.
func (d *dryRun) flush(out, errs string) {
	d.start()
	d.write(out, errs, false)
}

// gotSignal reports whether the program has got a signal so far.
func (d *dryRun) gotSignal() bool {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	return d.signalled
}

// notStarted is a program of which it is not known whether it can be started.
type notStarted struct{}

func (notStarted) LeftMemory() bool { return false }

// checkFiles refuses files that have been closed.
func checkFiles(c *wanted, streams streams) error {
	for n, s := range streams {
		switch f, _ := s.v.(*os.File); s.kind {
		case streamInherit:
			if fileNumber(ownStream(n)) < 0 {
				return errClosedStream(c.name, n)
			}
		case streamFile:
			if fileNumber(f) < 0 {
				return errClosedFile(c.name, f, n)
			}
		}
	}
	for i := range c.passed {
		if p := &c.passed[i]; p.file != nil && fileNumber(p.file) < 0 {
			return errClosedFile(c.name, p.file, p.fd)
		}
	}
	if tty := c.attrs.tty; tty != nil && fileNumber(tty) < 0 {
		return &startFailure{Op: "SetControllingTTY", Path: c.name, Err: os.ErrClosed}
	}
	for _, j := range c.namespaces.joined {
		if fileNumber(j.file) < 0 {
			return &startFailure{Op: "JoinNamespace", Path: c.name, Err: os.ErrClosed}
		}
	}
	return nil
}

// ownStream returns a standard stream of this process.
func ownStream(n int) *os.File { return [...]*os.File{os.Stdin, os.Stdout, os.Stderr}[n] }

// openStreams connects the standard streams.
func (d *dryRun) openStreams() error {
	d.input = &dryInput{d: d, chunks: make(chan []byte), done: make(chan struct{})}
	switch s := d.streams[stdin]; s.kind {
	case streamData:
		d.input.data = *bytes.NewReader(s.v.([]byte))
	case streamReader:
		d.input.callers.Reader = s.v.(io.Reader)
		d.input.source = &d.input.callers
	case streamFile:
		d.input.source = s.v.(*os.File)
	case streamPipe:
		r, w, err := os.Pipe()
		if err != nil {
			return d.failed(err)
		}
		d.input.source, d.input.pipe = r, r
		d.p.pipes[stdin] = &pipeEnd{pipeFile: pipeFile{File: w}}
	}
	if err := d.openTerminal(); err != nil {
		d.closePipes()
		return d.failed(err)
	}
	for n := stdout; n <= stderr; n++ {
		o, err := d.openOutput(n)
		if err != nil {
			d.closePipes()
			return d.failed(err)
		}
		d.outputs[n] = o
	}
	return nil
}

// openTerminal puts a pair of pipes in place of a terminal, if the command has one.
func (d *dryRun) openTerminal() error {
	if d.cmd.attrs.pty == nil {
		return nil
	}
	t := &terminal{dry: d.p, done: d.p.done}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	t.out.File, d.p.pty = r, t
	d.screen = &dryOutput{d: d, lock: make(chan struct{}, 1), w: w, pipe: w}
	if d.streams[stdin].kind != streamTTY {
		return nil
	}
	r, t.in.File, err = os.Pipe()
	if err != nil {
		return err
	}
	d.input.source, d.input.pipe = r, r
	return nil
}

func (d *dryRun) openOutput(n int) (*dryOutput, error) {
	s := d.streams[n]
	if s.kind == streamTTY {
		return d.screen, nil
	}
	if n == stderr && (s.kind == streamMerge || sameTarget(s, d.streams[stdout])) {
		return d.outputs[stdout], nil
	}
	o := &dryOutput{d: d, lock: make(chan struct{}, 1)}
	switch s.kind {
	case streamString, streamBytes, streamTail:
		o.captured, o.out.tail = true, s.kind == streamTail
	case streamWriter:
		o.callers.Writer = s.v.(io.Writer)
		o.w = &o.callers
	case streamFile:
		o.w = s.v.(*os.File)
	case streamInherit:
		o.w = ownStream(n)
	case streamPipe:
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		o.w, o.pipe = w, w
		d.p.pipes[n] = &pipeEnd{pipeFile: pipeFile{File: r}}
	}
	return o, nil
}

// closePipes closes all ends of all pipes.
func (d *dryRun) closePipes() {
	if d.input.pipe != nil {
		d.input.pipe.Close()
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

// closeCallersEnds closes the ends that a Process would have given to the caller.
func (d *dryRun) closeCallersEnds() {
	for _, e := range d.p.pipes {
		if e != nil {
			e.Close()
		}
	}
	if t := d.p.pty; t != nil {
		t.out.Close()
		if t.in.File != nil {
			t.in.Close()
		}
	}
}

// failed makes an error of the parent's a start's.
func (d *dryRun) failed(err error) error {
	if start := (*startFailure)(nil); errors.As(err, &start) {
		return err
	}
	return &startFailure{Op: "start", Path: d.cmd.name, Err: err}
}

// serve does everything until the program has ended.
func (d *dryRun) serve(ctx context.Context) {
	p, w := d.p, d.watcher
	unwatch := p.watch(ctx)
	err := d.begin()
	d.startErr = err
	switch {
	case err != nil:
		p.neverRan(err)
		if w != nil {
			w.failed(err)
		}
	case w != nil:
		w.started(d.cmd.name, p.pid)
	}
	close(d.begun)
	if p.gate != nil {
		p.gate.settle(err)
	}
	d.waitEnd(err)
	if unwatch != nil {
		unwatch()
	}
	if w != nil {
		w.over(&p.outcome)
	}
	close(p.done)
}

// begin returns when the program runs, or why it could not be started.
func (d *dryRun) begin() error {
	if g := d.p.gate; g != nil {
		close(g.ready)
		select {
		case <-g.passed:
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
	if isClosed(d.running) {
		return nil
	}
	return d.callError()
}

// endedBefore returns the error of a program that has been ended before it ran, if it was.
func (d *dryRun) endedBefore() error {
	p := d.p
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.killed:
		return &startFailure{Op: "start", Path: d.cmd.name, Err: p.ending}
	case p.gate != nil && !p.gate.open():
		return endedAtGate(d.cmd.name, status{ExitCode: -1, Signal: d.sig})
	}
	return nil
}

// callFunc calls the function.
func (d *dryRun) callFunc() {
	defer close(d.returned)
	finished := false
	defer func() {
		if !finished {
			d.result.err = d.failed(errNotReturned)
		}
	}()
	d.result = d.program()
	finished = true
	if d.callError() == nil {
		d.start()
		d.write(d.result.stdout, d.result.stderr, true)
	}
}

var errNotReturned = errors.New("the DryRunFunc has ended its goroutine")

// callError returns why the function says that the program was not started.
//
// Preconditions: the function has returned.
func (d *dryRun) callError() error {
	switch r := &d.result; {
	case r.err != nil:
		return r.err
	case r.signal == 0 && (r.exitCode < 0 || r.exitCode > 255):
		return d.failed(fmt.Errorf("the DryRunFunc's exit code %d is not in 0 to 255", r.exitCode))
	}
	return nil
}

// start says that the program runs.
func (d *dryRun) start() {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	d.startLocked()
}

// Preconditions: p.mu is held.
func (d *dryRun) startLocked() {
	p := d.p
	if isClosed(d.running) || d.sig != 0 {
		return
	}
	p.starting = nil
	close(d.running)
	for _, sig := range d.pending {
		_ = d.deliver(sig)
	}
}

// startHandling says that the program runs, as start, and handles signals itself. Both at once: who sees it run may send one.
func (d *dryRun) startHandling() <-chan os.Signal {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	d.startLocked()
	if d.signals == nil {
		d.signals = make(chan os.Signal, 16)
	}
	return d.signals
}

// deliver gives the program a signal.
//
// Preconditions: p.mu is held and the program has not ended.
func (d *dryRun) deliver(sig syscall.Signal) error {
	d.signalled = d.signalled || sig != 0
	switch {
	case d.sig != 0: // it is ending
	case d.p.starting != nil && canHandle(sig): // blocked until it runs
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
	if d.p.ending != nil || d.sig != 0 {
		d.cancel(d.p.ending)
	}
	return nil
}

// waitEnd waits until the program has ended, and says how. If startErr is not nil it never ran.
func (d *dryRun) waitEnd(startErr error) {
	p := d.p
	if startErr == nil {
		select {
		case <-d.returned:
		case <-d.killed:
		}
	}
	p.mu.Lock()
	p.buried()
	sig := d.sig
	p.mu.Unlock()
	d.cancel(nil)
	close(d.over)
	cut, err := d.endTransfers()
	tail := d.takeOutput()
	if startErr == nil && sig == 0 {
		startErr = d.callError() // which came too late for Start
	}
	switch {
	case startErr != nil:
		p.neverRan(startErr)
		return
	case sig != 0:
		p.outcome.status = status{ExitCode: -1, Signal: sig}
	case d.result.signal != 0:
		p.outcome.status = status{ExitCode: -1, Signal: d.result.signal}
	default:
		p.outcome.status = status{ExitCode: d.result.exitCode}
	}
	p.conclude(tail, err, cut)
}

// signal signals the program.
func (d *dryRun) signal(sig syscall.Signal) error { return d.deliver(sig) }

// signalAll signals the program, which has no others.
func (d *dryRun) signalAll(sig syscall.Signal) error { return d.deliver(sig) }

// goOn lets the program go on, which never stops but may ask for signals.
func (d *dryRun) goOn() { _ = d.deliver(sigContinue) }

// killLeftBehind finds nothing that is left.
func (d *dryRun) killLeftBehind() (killed bool) { return false }
