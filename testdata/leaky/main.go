// Leaky is a program with a C thread that opens and closes descriptors without
// close-on-exec, all the time. Meanwhile it starts children through os/exec and
// through spawn, and prints how many of each inherited one.
package main

/*
#cgo LDFLAGS: -pthread
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static char marker[4096];
static unsigned long opened;

static void *leak(void *unused) {
	int fds[16];
	for (int i = 0; i < 16; i++)
		fds[i] = -1;
	for (unsigned n = 0;; n = (n + 1) % 16) {
		if (fds[n] >= 0)
			close(fds[n]);
		fds[n] = open(marker, O_RDONLY);
		__atomic_add_fetch(&opened, fds[n] >= 0, __ATOMIC_RELAXED);
	}
	return NULL;
}

static char *markerBuffer(void) { return marker; }
static unsigned long openedSoFar(void) { return __atomic_load_n(&opened, __ATOMIC_RELAXED); }

static int start(void) {
	pthread_t thread;
	return pthread_create(&thread, NULL, leak, NULL);
}
*/
import "C"

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"unsafe"

	"github.com/virspawn/spawn"
)

// list prints what the descriptors of the child refer to; a number that is gone
// again is no failure.
const list = "readlink /proc/self/fd/* || true"

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run opens the file marker in the C thread.
func run(marker string) error {
	buffer := unsafe.Slice((*byte)(unsafe.Pointer(C.markerBuffer())), 4096)
	if copy(buffer[:len(buffer)-1], marker) < len(marker) {
		return fmt.Errorf("the path %q is too long", marker)
	}
	if n := C.start(); n != 0 {
		return fmt.Errorf("pthread_create: error %d", n)
	}
	ctx := context.Background()
	ways := []struct {
		name string
		run  func() ([]byte, error)
	}{
		{"os/exec", func() ([]byte, error) { return exec.Command("/bin/sh", "-c", list).Output() }},
		{"Output", func() ([]byte, error) { return spawn.New("/bin/sh", "-c", list).Output(ctx) }},
		{"Start", func() ([]byte, error) {
			var out string
			p, err := spawn.New("/bin/sh", "-c", list).SetOutputBuffer(&out).Start(ctx)
			if err == nil {
				err = p.Wait()
			}
			return []byte(out), err
		}},
		{"handshake", func() ([]byte, error) {
			var out string
			p, err := spawn.New("/bin/sh", "-c", list).RequireHandshake().SetOutputBuffer(&out).Start(ctx)
			if err != nil {
				return nil, err
			}
			if err := p.HandshakeWait(ctx); err != nil {
				return nil, err
			}
			if err := p.HandshakeNotify(); err != nil {
				return nil, err
			}
			err = p.Wait()
			return []byte(out), err
		}},
	}
	for _, w := range ways {
		leaked, err := count(w.run, []byte(marker))
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		fmt.Printf("%s: %d\n", w.name, leaked)
	}
	fmt.Printf("opened: %d\n", C.openedSoFar())
	return nil
}

// count returns how many of many children have the marker open.
func count(run func() ([]byte, error), marker []byte) (leaked int, err error) {
	const goroutines, each = 4, 50
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range goroutines {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range each {
				out, failed := run()
				mu.Lock()
				if failed != nil {
					err = failed
				} else if !bytes.Contains(out, []byte("/dev/null")) {
					// Standard input.
					err = fmt.Errorf("unexpected output %q", out)
				} else if bytes.Contains(out, marker) {
					leaked++
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return leaked, err
}
