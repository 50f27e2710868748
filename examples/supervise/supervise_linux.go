package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// supervisor is what all services have in common.
type supervisor struct {
	dir    string
	family *family
	output io.Writer    // of the programs
	log    *slog.Logger // of this process
}

func run(args []string) int {
	flags := flag.NewFlagSet("supervise", flag.ContinueOnError)
	dir := flags.String("run", defaultDir(), "directory for pid files and sockets")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: supervise [-run DIR] FILE")
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() != 1 || *dir == "":
		flags.Usage()
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	s := &supervisor{dir: *dir, output: os.Stdout, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if err := s.run(ctx, flags.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "supervise:", err)
		return 1
	}
	return 0
}

// defaultDir returns "" where there is no default.
func defaultDir() string {
	if os.Geteuid() == 0 {
		return "/run/supervise"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "supervise")
	}
	return ""
}

// run runs the programs of a configuration until ctx ends.
func (s *supervisor) run(ctx context.Context, file string) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	programs, err := parse(file)
	if err != nil {
		return err
	}
	lock, err := takeDir(s.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if s.family, err = newFamily(); err != nil {
		return err
	}
	signal.Notify(s.family.ended, syscall.SIGCHLD)

	var services []*service
	for _, p := range programs {
		svc, err := s.newService(p)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", p.where, p.name, err)
		}
		defer svc.close()
		services = append(services, svc)
	}
	var kept sync.WaitGroup
	for _, svc := range services {
		kept.Add(1)
		go func() {
			defer kept.Done()
			svc.keep(ctx)
		}()
	}
	done := make(chan struct{})
	go func() {
		<-ctx.Done()
		kept.Wait()
		close(done)
	}()
	for {
		select {
		case <-asked:
			for _, svc := range services {
				svc.report()
			}
		case <-s.family.ended:
			s.family.tidy()
		case <-done:
			s.family.killAll()
			return nil
		}
	}
}

// takeDir makes a directory, if it is not there, and locks it: two supervisors
// must not share it.
func takeDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another supervisor runs in %s: %w", dir, err)
	}
	return f, nil
}
