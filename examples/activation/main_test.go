//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/virspawn/spawn"
)

// TestMain makes this test binary the server when it is given sockets.
func TestMain(m *testing.M) {
	if os.Getenv("LISTEN_FDS") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// get makes a request over a connection of its own, which dial makes, and
// returns the answer.
func get(dial func() (net.Conn, error)) (string, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return dial() },
		DisableKeepAlives: true,
	}}
	response, err := client.Get("http://server/")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// requireAnswer makes a request and checks which server has answered, and on
// which socket.
func requireAnswer(t *testing.T, l net.Listener, name string, pid int) {
	t.Helper()
	text, err := get(func() (net.Conn, error) { return net.Dial(l.Addr().Network(), l.Addr().String()) })
	if want := fmt.Sprintln(name, pid); err != nil || text != want {
		t.Fatalf("the answer is %q, %v, want %q", text, err, want)
	}
}

func sockets(t *testing.T) (tcp, unix net.Listener) {
	t.Helper()
	tcp, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	unix, err = listen(filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close() })
	return tcp, unix
}

// end ends a server as a service manager does; it answers what it has begun and
// exits with code 0.
func end(t *testing.T, p *spawn.Process) {
	t.Helper()
	if err := errors.Join(p.Signal(syscall.SIGTERM), p.Wait()); err != nil {
		t.Fatal(err)
	}
}

func TestAServerInAChildAnswersOnItsSockets(t *testing.T) {
	tcp, unix := sockets(t)
	p, err := start(context.Background(), map[string][]net.Listener{"http:tcp": {tcp}, "path": {unix}})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		requireAnswer(t, tcp, "http_tcp", p.PID())
		requireAnswer(t, unix, "path", p.PID())
	}
	end(t, p)
}

// TestServersTakeTurnsOnASocket: this process serves, hands over to a child
// without a request refused, and the child to the next.
func TestServersTakeTurnsOnASocket(t *testing.T) {
	tcp, unix := sockets(t)
	listeners := map[string][]net.Listener{"tcp": {tcp}, "unix": {unix}}
	var servers []*spawn.Process
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error)
	// A descriptor of its own, which Shutdown closes.
	f, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	own, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() { served <- serve(ctx, map[string][]net.Listener{"own": {own}}) }()
	requireAnswer(t, own, "own", os.Getpid())

	for range 3 {
		p, err := start(context.Background(), listeners)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, p)
		if len(servers) == 1 {
			cancel()
			if err := <-served; err != nil {
				t.Fatal(err)
			}
		} else {
			end(t, servers[len(servers)-2])
		}
		requireAnswer(t, tcp, "tcp", p.PID())
		requireAnswer(t, unix, "unix", p.PID())
	}
	end(t, servers[2])
}

func TestWithoutSocketsAndAddressesThereIsNothingToServe(t *testing.T) {
	err := run(context.Background(), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "neither") {
		t.Fatal(err)
	}
}

// TestTheProgramServesUntilItIsEnded as its user runs it: this process is the
// one who gives the sockets.
func TestTheProgramServesUntilItIsEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error)
	go func() { ended <- run(ctx, []string{path}) }()
	text, err := get(func() (net.Conn, error) {
		for {
			c, err := net.Dial("unix", path)
			if err == nil || !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED) {
				// Else it is not there yet.
				return c, err
			}
			runtime.Gosched()
		}
	})
	if err != nil || !strings.HasPrefix(text, path+" ") {
		t.Fatalf("the answer is %q, %v", text, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
