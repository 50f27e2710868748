//go:build linux

// Command activation is an HTTP server that opens no socket of its own: it
// serves on those that it is given, as systemd and package spawn do it. Without
// any, it is the one who gives them, to itself in a child:
//
//	go run . 127.0.0.1:8080 /tmp/socket
//
// A request is answered with the name of its socket and the server's pid.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/virspawn/spawn"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addresses []string) error {
	// This takes the variables out of the environment too.
	listeners, err := activation.ListenersWithNames()
	switch {
	case err != nil:
		return err
	case len(listeners) > 0:
		return serve(ctx, listeners)
	case len(addresses) == 0:
		return errors.New("neither sockets nor addresses, HOST:PORT or PATH, to serve on")
	}
	for _, address := range addresses {
		l, err := listen(address)
		if err != nil {
			return err
		}
		defer l.Close()
		listeners[address] = []net.Listener{l}
	}
	p, err := start(ctx, listeners)
	if err != nil {
		return err
	}
	err = p.Wait()
	if ctx.Err() != nil { // as it should
		return nil
	}
	return err
}

// listen opens a TCP socket, or one with a path.
func listen(address string) (net.Listener, error) {
	if strings.Contains(address, "/") {
		return net.Listen("unix", address)
	}
	return net.Listen("tcp", address)
}

// start starts this program with the sockets of the listeners, each under its
// name. The listeners stay the caller's.
func start(ctx context.Context, listeners map[string][]net.Listener) (*spawn.Process, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := spawn.New(path).SetStderr(os.Stderr)
	for name, all := range listeners {
		for _, l := range all {
			f, err := l.(interface{ File() (*os.File, error) }).File()
			if err != nil {
				return nil, err
			}
			defer f.Close()
			// A colon is none of a name's characters.
			cmd.AddListenFD(f, strings.ReplaceAll(name, ":", "_"))
		}
	}
	return cmd.Start(ctx)
}

// serve answers requests on every listener until ctx ends, and those that have
// begun to the end.
func serve(ctx context.Context, listeners map[string][]net.Listener) error {
	var wg sync.WaitGroup
	var servers []*http.Server
	errs := make(chan error, 1)
	for name, all := range listeners {
		for _, l := range all {
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintln(w, name, os.Getpid())
			})}
			servers = append(servers, server)
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
					select {
					case errs <- err:
					default:
					}
				}
			}()
		}
	}
	var err error
	select {
	case err = <-errs:
	case <-ctx.Done():
	}
	for _, server := range servers {
		err = errors.Join(err, server.Shutdown(context.Background()))
	}
	wg.Wait()
	return err
}
