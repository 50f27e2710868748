//go:build linux

package program

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// sample returns a program with pointers, links, a hook, the pid, and more than
// one block of memory, from Split on.
func sample(t testing.TB) *Program {
	p, err := New(0)
	require.NoError(t, err)
	p.Track()
	p.Add(unix.SYS_SETSID)
	p.Split()
	open := p.Add(unix.SYS_OPENAT, 3, p.CString("/dev/null"), 0)
	write := p.Add(unix.SYS_WRITE, 0, p.CString("text"), 4)
	p.Link(open, write, 0)
	p.Expect(write, 4)
	p.AddHook("a name", "an argument")
	p.Alloc(2 * firstBlock)
	argv := p.Pointers(2)
	p.SetPointer(argv, 0, p.CString("argument 0"))
	p.SetPointer(argv, 1, p.PIDText("PID="))
	p.Add(unix.SYS_EXECVE, p.CString("/bin/true"), argv, p.Pointers(0))
	return p
}

func TestAnEncodedProgramIsTheSameElsewhere(t *testing.T) {
	p := sample(t)
	defer p.Free()
	b := p.Encode()
	q, first, err := Decode(b)
	require.NoError(t, err)
	defer q.Free()
	require.Equal(t, 1, first)
	require.Equal(t, p.Len()-1, q.Len())
	p.SetPID(4242)
	q.SetPID(4242)
	for i := range q.Len() {
		require.Equal(t, p.Op(i+1), q.Op(i))
		require.Equal(t, p.At(i+1).Flags, q.At(i).Flags)
		require.Equal(t, p.At(i+1).Expect, q.At(i).Expect)
	}
	require.Contains(t, q.Op(3), `["argument 0", "PID=4242"]`)
	q.StoreResult(0, 7)
	require.Equal(t, uintptr(7), q.At(1).Args[0])
	name, arg, ok := q.Hook(2)
	require.True(t, ok)
	require.Equal(t, "a name an argument", name+" "+arg)

	before := InUse()
	for n := range len(b) {
		if n%97 == 0 {
			_, _, err := Decode(b[:n])
			require.ErrorIs(t, err, errEncoding)
		}
	}
	require.Equal(t, before, InUse())
}

// TestOnlyAddressesMove: on a 32-bit processor an id can be the number that an
// address is.
func TestOnlyAddressesMove(t *testing.T) {
	p, err := New(0)
	require.NoError(t, err)
	defer p.Free()
	p.Track()
	text := p.CString("text")
	require.Equal(t, 0, p.Add(SysSetresuid))
	p.At(0).Args[0] = text
	p.Add(unix.SYS_CHDIR, text)
	q, _, err := Decode(p.Encode())
	require.NoError(t, err)
	defer q.Free()
	require.Equal(t, text, q.At(0).Args[0])
	require.NotEqual(t, text, q.At(1).Args[0])
	require.Equal(t, `chdir("text")`, q.Op(1))

	if pointerSize == 8 {
		require.Panics(t, func() { p.Add(unix.SYS_GETPPID, text) }, "it is not known for its arguments")
	}
}

// TestNoBufferIsLeftBehindThatWasNotCleared: what is grown while it is filled
// leaves copies of secrets.
func TestNoBufferIsLeftBehindThatWasNotCleared(t *testing.T) {
	p := sample(t)
	defer p.Free()
	for range 3 { // in blocks of their own
		p.CString(strings.Repeat("secret", firstBlock))
	}
	b := p.Encode()
	require.Equal(t, len(b), cap(b), "it was made once")
	small := make([]byte, 8, 2*firstBlock)
	image, _ := p.AppendImage(small, 0, 1<<20, -1)
	require.NotSame(t, &small[0], &image[0])
	require.Equal(t, make([]byte, cap(small)), small[:cap(small)], "nothing was put where there was no room for all")
}

// FuzzDecode: whatever the bytes are, Decode returns a program or an error, and
// nothing is left. The checksum is set, as a forger would.
func FuzzDecode(f *testing.F) {
	p := sample(f)
	b := p.Encode()
	last := p.arena.blocks[len(p.arena.blocks)-1]
	end := uint64(uintptr(last.base)) + uint64(last.used)
	p.Free()
	f.Add(b)
	for _, n := range []int{0, 1, headerWords * wordSize, 10 * wordSize, 10*wordSize + 1, len(b) - 1} {
		f.Add(b[:n])
	}
	// Each word in front of the blocks of memory is spoiled in turn.
	for at := 0; at < len(b) && at < 80*wordSize; at += wordSize {
		for _, spoiled := range []uint64{0, 1, 1 << 40, ^uint64(0), binary.NativeEndian.Uint64(b[at:]) + 1, uint64(len(b)), end - 1} {
			f.Add(append(binary.NativeEndian.AppendUint64(bytes.Clone(b[:at]), spoiled), b[at+wordSize:]...))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		seal(b)
		q, _, err := Decode(b)
		if err == nil {
			for i := range q.Len() {
				q.StoreResult(i, 1)
			}
			q.SetPID(4242)
			q.Free()
		}
		require.Zero(t, InUse())
	})
}
