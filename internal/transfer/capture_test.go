package transfer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// allNumbers is 8 MiB of a counter, 8 bytes each.
var allNumbers = sync.OnceValue(func() []byte {
	b := make([]byte, 8<<20)
	for i := range len(b) / 8 {
		binary.BigEndian.PutUint64(b[i*8:], uint64(i)*0x0101_0101)
	}
	return b
})

// numbers returns n bytes in which any shift, loss or repetition shows. They
// must not be changed.
func numbers(n int) []byte {
	b := allNumbers()
	if n > len(b) {
		b = bytes.Repeat(b, n/len(b)+1)
	}
	return b[:n]
}

// feed gives data to c as reads of at most chunk bytes would.
func feed(t *testing.T, c *Capture, data []byte, chunk int) {
	t.Helper()
	for len(data) > 0 {
		room := c.Room()
		require.NotEmpty(t, room)
		n := copy(room[:min(chunk, len(room))], data)
		c.Add(n)
		data = data[n:]
	}
}

// captureSizes are the sizes around every boundary of a capture: its blocks are
// 64 KiB, 256 KiB, 1 MiB, 4 MiB, 4 MiB long.
func captureSizes() (sizes []int) {
	sizes = []int{0, 1, 5*blockSize + 1<<20 + maxChunk + 1}
	for _, n := range []int{
		TailSize, blockSize, blockSize + TailSize, 2 * blockSize, 5 * blockSize, 5*blockSize + TailSize,
		5*blockSize + 1<<20,
	} {
		sizes = append(sizes, n-1, n, n+1)
	}
	return sizes
}

// captureChunks returns the sizes of reads to try for n bytes.
func captureChunks(n int) []int {
	if n <= TailSize+1 {
		return []int{1, 997, maxChunk}
	}
	return []int{4093, maxChunk}
}

func TestCaptureReturnsAllThatItWasGiven(t *testing.T) {
	for _, n := range captureSizes() {
		data := numbers(n)
		for _, chunk := range captureChunks(n) {
			var c Capture
			feed(t, &c, data, chunk)
			what := fmt.Sprintf("%d bytes by %d", n, chunk)
			require.Equal(t, n, c.len(), what)
			require.True(t, string(data) == string(c.bytes()), what)
			require.True(t, string(data) == c.string(), what)
			require.True(t, string(data[max(0, n-TailSize):]) == string(c.Last()), what)
			c.Free()
			require.Zero(t, c.len(), what)
		}
	}
}

func TestCaptureOfATailKeepsExactlyItsLast32KiB(t *testing.T) {
	for _, n := range captureSizes() {
		data := numbers(n)
		for _, chunk := range captureChunks(n) {
			c := Capture{Tail: true}
			feed(t, &c, data, chunk)
			require.True(t, string(data[max(0, n-TailSize):]) == string(c.Last()), "%d bytes by %d", n, chunk)
			require.Empty(t, c.full, "a tail needs one block")
			require.LessOrEqual(t, cap(c.cur), blockSize, "a tail needs one block")
			c.Free()
			require.True(t, c.Tail, "a tail stays one")
		}
	}
}

func TestCaptureOfNothingIsNothing(t *testing.T) {
	for _, c := range []Capture{{}, {Tail: true}} {
		for _, roomy := range []bool{false, true} {
			if roomy {
				require.NotEmpty(t, c.Room())
			}
			require.Nil(t, c.bytes())
			require.Nil(t, c.Last())
			require.Empty(t, c.string())
		}
		c.Free()
	}
}

func TestCaptureGivesItsFirstBlockBackWipedAndItsResultsAreCopies(t *testing.T) {
	for _, tail := range []bool{false, true} {
		c := Capture{Tail: tail}
		feed(t, &c, []byte("secret"), 6)
		b, s, last := c.bytes(), c.string(), c.Last()
		first := c.first
		c.Free()
		require.Equal(t, [blockSize]byte{}, *first)
		require.Equal(t, []string{"secret", "secret", "secret"}, []string{string(b), s, string(last)})
	}
}

func TestCaptureTakesMemoryInProportionToTheOutput(t *testing.T) {
	for _, n := range captureSizes() {
		var c Capture
		feed(t, &c, make([]byte, n), maxChunk)
		taken := cap(c.cur)
		for _, b := range c.full {
			require.Len(t, b, cap(b), "a full block")
			taken += cap(b)
		}
		// The last block is at most four times the one before.
		require.LessOrEqual(t, taken, 5*n+blockSize, "%d bytes", n)
		require.LessOrEqual(t, taken, n+blockSize+maxChunk, "%d bytes", n)
		c.Free()
	}
}
