package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/virspawn/spawn"
)

// startAndWait runs the program by Start, for what only a Process can do.
func (r *runner) startAndWait(ctx context.Context) error {
	p, err := r.cmd.Start(ctx)
	if err != nil {
		return err
	}
	if r.handshake {
		if err := shakeHands(p); err != nil {
			return err
		}
	}
	copied := copyStreams(p)
	err = p.Wait()
	copied()
	return err
}

// shakeHands waits until the child has stopped before its program, and then for
// SIGUSR1. The end of the command's context ends the child, and so both waits,
// with an error that says so.
func shakeHands(p *spawn.Process) error {
	if err := p.HandshakeWait(context.Background()); err != nil {
		return err
	}
	wanted := make(chan os.Signal, 1)
	signal.Notify(wanted, syscall.SIGUSR1)
	defer signal.Stop(wanted)
	fmt.Fprintf(os.Stderr, "spawnrun: process %d waits; kill -USR1 %d lets its program run\n", p.PID(), os.Getpid())
	select {
	case <-wanted:
	case <-p.Done():
	}
	return p.HandshakeNotify()
}

// copyStreams copies between the pipes that there are and spawnrun's own
// streams. The function that it returns waits for the output.
func copyStreams(p *spawn.Process) func() {
	if in := p.Stdin(); in != nil {
		go func() { // which may wait for input when the program has ended
			// A program may end before its input does.
			_, _ = io.Copy(in, os.Stdin)
			in.Close()
		}()
	}
	var outputs sync.WaitGroup
	copyTo := func(to io.Writer, from io.ReadCloser) {
		if from == nil {
			return
		}
		outputs.Add(1)
		go func() {
			defer outputs.Done()
			defer from.Close()
			if _, err := io.Copy(to, from); err != nil {
				complain(err)
			}
		}()
	}
	copyTo(os.Stdout, p.Stdout())
	copyTo(os.Stderr, p.Stderr())
	return outputs.Wait
}

// announce is the function of -hook.
var announce = spawn.RegisterHook("announce", func(text string) error {
	_, err := fmt.Fprintln(os.Stderr, text)
	return err
})

// policy refuses programs of directories that -policy does not name. What else
// is in those directories, links and the like, is theirs who may write there.
func (r *runner) policy(c *spawn.Command) error {
	dir := filepath.Dir(filepath.Clean(c.Path()))
	if slices.ContainsFunc(r.allowed, func(allowed string) bool { return filepath.Clean(allowed) == dir }) {
		return nil
	}
	return fmt.Errorf("-policy does not allow programs of %s", dir)
}

// debugLog returns a logger for everything.
func debugLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// observer prints the events of -observe.
type observer struct{}

func (observer) CommandStarted(_ context.Context, e spawn.StartEvent) {
	fmt.Fprintf(os.Stderr, "spawnrun: process %d runs %s\n", e.PID, e.Path)
}

func (observer) CommandExited(_ context.Context, e spawn.ExitEvent) {
	fmt.Fprintf(os.Stderr, "spawnrun: process %d: %v after %v\n", e.PID, e.Status, e.Duration)
}

func (observer) CommandFailed(_ context.Context, e spawn.FailEvent) {
	fmt.Fprintf(os.Stderr, "spawnrun: %s was not started\n", e.Path)
}
