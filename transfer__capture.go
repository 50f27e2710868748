package spawn

import (
	"strings"
	"sync"
)

// tailSize is how much of standard error is kept for the error, in bytes.
const tailSize = 32 << 10

// blockSize is the first buffer of a capture: what a pipe holds by default, and twice what a tail keeps.
const blockSize = 64 << 10

// maxChunk bounds how much memory a capture may take in advance.
const maxChunk = 4 << 20

// capture collects the output of a child: all of it or, for a tail, the last tailSize bytes. It never moves what it has
// collected until the end, so that n bytes of output cost n bytes of memory and n bytes of result.
type capture struct {
	tail  bool
	first *[blockSize]byte // from blocks
	full  [][]byte
	cur   []byte // being filled: len is what is in it
}

// blocks keeps the first buffers of captures.
var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// room returns space to read into. It is never empty.
func (c *capture) room() []byte {
	switch {
	case c.first == nil:
		c.first = blocks.Get().(*[blockSize]byte)
		c.cur = c.first[:0]
	case len(c.cur) < cap(c.cur):
	case c.tail:
		c.cur = c.cur[:copy(c.cur, c.cur[len(c.cur)-tailSize:])]
	default:
		c.full = append(c.full, c.cur)
		c.cur = make([]byte, 0, min(4*cap(c.cur), maxChunk))
	}
	return c.cur[len(c.cur):cap(c.cur)]
}

// add takes the n bytes that were read into room.
func (c *capture) add(n int) { c.cur = c.cur[:len(c.cur)+n] }

// large reports whether there is more output than a first buffer holds.
func (c *capture) large() bool { return len(c.full) > 0 }

func (c *capture) len() int {
	n := len(c.cur)
	for _, b := range c.full {
		n += len(b)
	}
	return n
}

// bytes returns a copy of all that was collected; nil when that is nothing.
func (c *capture) bytes() []byte {
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
func (c *capture) string() string {
	var b strings.Builder
	b.Grow(c.len())
	for _, chunk := range c.full {
		b.Write(chunk)
	}
	b.Write(c.cur)
	return b.String()
}

// last returns a copy of the last tailSize bytes; nil when there are none.
func (c *capture) last() []byte {
	if c.len() == 0 {
		return nil
	}
	n := min(len(c.cur), tailSize)
	last := c.cur[len(c.cur)-n:]
	if missing := tailSize - n; missing > 0 && len(c.full) > 0 {
		b := c.full[len(c.full)-1] // at least blockSize long
		return append(append(make([]byte, 0, tailSize), b[len(b)-missing:]...), last...)
	}
	return append([]byte(nil), last...)
}

// free gives the first buffer back. What was collected is gone.
func (c *capture) free() {
	if c.first != nil {
		used := len(c.cur)
		if c.tail || c.large() {
			used = blockSize
		}
		clear(c.first[:used]) // it may hold secrets
		blocks.Put(c.first)
	}
	*c = capture{tail: c.tail}
}

// assign sets the variable that v points to, a string or a slice of bytes, to all
// that was collected.
func (c *capture) assign(v any) {
	switch v := v.(type) {
	case *string:
		*v = c.string()
	case *[]byte:
		*v = c.bytes()
	}
}
