package process

import (
	"os"

	"github.com/virspawn/spawn/internal/transfer"
)

// NewTerminal makes what the caller gets of the parent's end. It fails writes
// once done is closed, which says that the program has ended.
func NewTerminal(f transfer.Pipe, done <-chan struct{}) *Terminal {
	t := &Terminal{In: f, Out: f, Done: done}
	if f.Await != nil { // then no deadline ends a Write
		t.In.Await = func(f *os.File, write bool) error {
			if IsClosed(done) {
				return os.ErrDeadlineExceeded
			}
			return transfer.AwaitBlocked(f, write)
		}
	}
	return t
}
