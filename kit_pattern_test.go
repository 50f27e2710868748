package spawn

import (
	"bytes"
	"encoding/binary"
	"sync"
)

// counters is 8 MiB of a counter, 8 bytes each.
var counters = sync.OnceValue(func() []byte {
	b := make([]byte, 8<<20)
	for i := range len(b) / 8 {
		binary.BigEndian.PutUint64(b[i*8:], uint64(i)*0x0101_0101)
	}
	return b
})

// pattern returns n bytes in which any shift, loss or repetition shows. They must not be changed.
func pattern(n int) []byte {
	b := counters()
	if n > len(b) {
		b = bytes.Repeat(b, n/len(b)+1)
	}
	return b[:n]
}
