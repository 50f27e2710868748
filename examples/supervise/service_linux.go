package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
	"unicode"

	"github.com/virspawn/spawn"
)

// service is a program that is kept running.
type service struct {
	*program
	cmd       *spawn.Command
	listeners []net.Listener // which keep the sockets
	dir       string
	family    *family
	output    io.Writer
	log       *slog.Logger

	mu       sync.Mutex
	state    state
	pid      int // 0 when there is no process
	restarts int
	// When the program has started; zero when it does not run.
	since time.Time
}

type state string

const (
	starting state = "starting"
	// The process is there, and waits to become the program.
	ready    state = "ready"
	running  state = "running"
	pausing  state = "pausing"  // until it is started again
	stopping state = "stopping" // it was told to
	stopped  state = "stopped"
	ended    state = "ended" // by itself, and is not started again
)

// newService opens the program's sockets and finds out what is wrong with what
// the configuration says, without starting anything.
func (s *supervisor) newService(p *program) (*service, error) {
	svc := &service{program: p, dir: s.dir, family: s.family, output: s.output, log: s.log, state: stopped}
	var sockets []*os.File
	for _, name := range p.socketNames() {
		l, f, err := p.listen[name].open(s.dir)
		if err != nil {
			svc.close()
			return nil, err
		}
		svc.listeners, sockets = append(svc.listeners, l), append(sockets, f)
	}
	svc.cmd = p.newCommand(s.dir, sockets)
	if _, err := svc.cmd.Explain(); err != nil {
		svc.close()
		return nil, err
	}
	return svc, nil
}

func (svc *service) close() {
	for _, l := range svc.listeners {
		l.Close()
	}
}

// keep keeps the program running until ctx ends.
func (svc *service) keep(ctx context.Context) {
	pause := svc.pause
	for {
		ran, err := svc.run(ctx)
		switch {
		case ctx.Err() != nil:
			svc.change(stopped, 0, "reason", reason(err))
			return
		case !svc.restart.wanted(err):
			svc.change(ended, 0, "reason", reason(err))
			return
		case ran >= time.Duration(svc.stable):
			pause = svc.pause
		}
		svc.change(pausing, 0, "reason", reason(err), "pause", time.Duration(pause))
		select {
		case <-ctx.Done():
			svc.change(stopped, 0)
			return
		case <-time.After(time.Duration(pause)):
		}
		pause = min(2*pause, svc.maxPause)
	}
}

// run runs the program once and returns how long it ran. When it returns, the
// program has ended, what it has written is out, and its pid file is gone.
func (svc *service) run(ctx context.Context) (ran time.Duration, err error) {
	svc.change(starting, 0)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := svc.family.start(ctx, svc.cmd)
	if err != nil {
		return 0, err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		copyLines(svc.output, svc.name+": ", p.Stdout())
	}()

	began := time.Now()
	if p.HandshakeWait(ctx) == nil {
		// Everything is applied and the pid file is there. Who reads the log
		// knows the process before it does anything.
		svc.change(ready, p.PID())
		if p.HandshakeNotify() == nil {
			began = time.Now()
			svc.change(running, p.PID())
		}
	} // else it has ended, or is about to, and Wait says why
	select {
	case <-p.Done():
	case <-ctx.Done():
		svc.change(stopping, p.PID())
	}
	err = p.Wait()
	ran = time.Since(began)
	svc.family.forget(p)

	cancel() // nobody waits any longer for what might keep the output open
	<-copied
	// There is none if the program was not started.
	_ = os.Remove(svc.pidFile(svc.dir))
	return ran, err
}

// copyLines copies what a program writes, line by line, until its end. Lines of
// more than 4 KiB are cut into several. Control characters, by which a terminal
// could be made to show the line as another program's, are left out.
func copyLines(w io.Writer, prefix string, r io.ReadCloser) {
	defer r.Close()
	lines := bufio.NewReader(r)
	for {
		line, _, err := lines.ReadLine()
		if err != nil {
			return
		}
		fmt.Fprintf(w, "%s%s\n", prefix, bytes.Map(printable, line))
	}
}

func printable(r rune) rune {
	if unicode.IsControl(r) && r != '\t' {
		return -1
	}
	return r
}

// change changes the state and reports it.
func (svc *service) change(to state, pid int, more ...any) {
	svc.mu.Lock()
	if svc.state == pausing && to == starting {
		svc.restarts++
	}
	svc.state, svc.pid = to, pid
	switch {
	case to == running:
		svc.since = time.Now()
	case pid == 0:
		svc.since = time.Time{}
	}
	svc.mu.Unlock()
	svc.report(more...)
}

// report logs the status.
func (svc *service) report(more ...any) {
	svc.mu.Lock()
	args := []any{"program", svc.name, "state", svc.state, "restarts", svc.restarts}
	if svc.pid != 0 {
		args = append(args, "pid", svc.pid)
	}
	if !svc.since.IsZero() {
		args = append(args, "uptime", time.Since(svc.since).Round(time.Millisecond))
	}
	svc.mu.Unlock()
	svc.log.Info("status", append(args, more...)...)
}

// reason says why a program has ended: how, or why it could not be started.
func reason(err error) string {
	var exit *spawn.ExitError
	switch {
	case err == nil:
		return spawn.Status{}.String()
	case errors.As(err, &exit):
		return exit.Status.String()
	}
	return err.Error()
}
