package spawn

import "os"

// newTerminal makes what the caller gets of this process's end. done is closed when the program has ended.
func newTerminal(f pipeFile, done <-chan struct{}) *terminal {
	t := &terminal{in: f, out: f, done: done}
	if f.await != nil { // then no deadline ends a Write
		t.in.await = func(f *os.File, write bool) error {
			if isClosed(done) {
				return os.ErrDeadlineExceeded
			}
			return awaitBlocked(f, write)
		}
	}
	return t
}
