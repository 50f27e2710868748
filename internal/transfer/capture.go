package transfer

import (
	"strings"
	"sync"
)

// TailSize is how much of standard error is kept for the error, in bytes.
const TailSize = 32 << 10

// blockSize is the first buffer of a capture: what a pipe holds by default, and
// twice what a tail keeps.
const blockSize = 64 << 10

// maxChunk bounds how much memory a capture may take in advance.
const maxChunk = 4 << 20

// Capture collects the output of a child: all of it or, for a tail, the last
// TailSize bytes. It never moves what it has collected until the end, so that n
// bytes of output cost n bytes of memory and n bytes of result.
type Capture struct {
	Tail  bool
	first *[blockSize]byte // from blocks
	full  [][]byte
	cur   []byte // being filled: len is what is in it
}

// blocks keeps the first buffers of captures.
var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// Room returns space to read into. It is never empty.
func (c *Capture) Room() []byte {
	switch {
	case c.first == nil:
		c.first = blocks.Get().(*[blockSize]byte)
		c.cur = c.first[:0]
	case len(c.cur) < cap(c.cur):
	case c.Tail:
		c.cur = c.cur[:copy(c.cur, c.cur[len(c.cur)-TailSize:])]
	default:
		c.full = append(c.full, c.cur)
		c.cur = make([]byte, 0, min(4*cap(c.cur), maxChunk))
	}
	return c.cur[len(c.cur):cap(c.cur)]
}

// Add takes the n bytes that were read into Room.
func (c *Capture) Add(n int) { c.cur = c.cur[:len(c.cur)+n] }

// large reports whether there is more output than a first buffer holds.
func (c *Capture) large() bool { return len(c.full) > 0 }

func (c *Capture) len() int {
	n := len(c.cur)
	for _, b := range c.full {
		n += len(b)
	}
	return n
}

// bytes returns a copy of all that was collected; nil when that is nothing.
func (c *Capture) bytes() []byte {
	if c.len() == 0 {
		return nil
	}
	all := make([]byte, 0, c.len())
	for _, b := range c.full {
		all = append(all, b...)
	}
	return append(all, c.cur...)
}

// string returns a copy of all that was collected.
func (c *Capture) string() string {
	var b strings.Builder
	b.Grow(c.len())
	for _, chunk := range c.full {
		b.Write(chunk)
	}
	b.Write(c.cur)
	return b.String()
}

// Last returns a copy of the last TailSize bytes; nil when there are none.
func (c *Capture) Last() []byte {
	if c.len() == 0 {
		return nil
	}
	n := min(len(c.cur), TailSize)
	last := c.cur[len(c.cur)-n:]
	if missing := TailSize - n; missing > 0 && len(c.full) > 0 {
		b := c.full[len(c.full)-1] // at least blockSize long
		return append(append(make([]byte, 0, TailSize), b[len(b)-missing:]...), last...)
	}
	return append([]byte(nil), last...)
}

// Free gives the first buffer back. What was collected is gone.
func (c *Capture) Free() {
	if c.first != nil {
		used := len(c.cur)
		if c.Tail || c.large() {
			used = blockSize
		}
		clear(c.first[:used]) // it may hold secrets
		blocks.Put(c.first)
	}
	*c = Capture{Tail: c.Tail}
}

// Assign sets the variable that v points to, a string or a slice of bytes, to
// all that was collected.
func (c *Capture) Assign(v any) {
	switch v := v.(type) {
	case *string:
		*v = c.string()
	case *[]byte:
		*v = c.bytes()
	}
}
