//go:build linux

package program

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// newProgram returns a program that is freed at the end of the test.
func newProgram(t testing.TB) *Program {
	p, err := New(0)
	require.NoError(t, err)
	t.Cleanup(p.Free)
	return p
}

// unpooled returns a program with fresh memory, whatever earlier tests have
// left in the pool.
func unpooled(t testing.TB) *Program {
	emptyPool()
	p, err := New(0)
	require.NoError(t, err)
	return p
}

func emptyPool() {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	for _, p := range pool.free {
		p.arena.close()
	}
	pool.free = nil
}

func pooled() []*Program {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	return pool.free
}

func TestAllocationsAreZeroedAlignedAndApart(t *testing.T) {
	p := newProgram(t)
	type piece struct {
		addr uintptr
		n    int
		fill byte
	}
	var pieces []piece
	for i, n := range []int{1, 7, 8, 9, 63, 64, 4095, 0, 4097, 1} {
		addr := p.Alloc(n)
		require.Zero(t, addr%wordSize, "alignment of %d bytes", n)
		if n == 0 {
			continue
		}
		b := p.Bytes(addr, n)
		require.Equal(t, make([]byte, n), b)
		fill := byte(i + 1)
		for j := range b {
			b[j] = fill
		}
		pieces = append(pieces, piece{addr, n, fill})
	}
	for _, x := range pieces {
		require.Equal(t, bytes.Repeat([]byte{x.fill}, x.n), p.Bytes(x.addr, x.n), "overwritten by another piece")
	}
}

func TestMemoryGrowsBeyondTheFirstBlockAndNothingMoves(t *testing.T) {
	p := newProgram(t)
	var addrs []uintptr
	for i := range 100 {
		addrs = append(addrs, p.CString(strings.Repeat("x", 3000), fmt.Sprint(i)))
	}
	large := p.Alloc(5*firstBlock + 1)
	p.Bytes(large, 5*firstBlock+1)[5*firstBlock] = 1
	after := p.CString("after")

	require.Greater(t, len(p.arena.blocks), 2)
	for i, addr := range addrs {
		want := strings.Repeat("x", 3000) + fmt.Sprint(i) + "\x00"
		require.Equal(t, want, string(p.Bytes(addr, len(want))))
	}
	require.Equal(t, "after\x00", string(p.Bytes(after, 6)))
}

func TestNewMakesRoomForTheWholeSizeInAdvance(t *testing.T) {
	p, err := New(3 * firstBlock)
	require.NoError(t, err)
	defer p.Free()
	blocks := len(p.arena.blocks)
	p.Alloc(3*firstBlock - 64) // a report stands there already
	require.Len(t, p.arena.blocks, blocks)
}

func TestMoreMemoryThanTheKernelHasIsAnError(t *testing.T) {
	used := InUse()
	if pointerSize == 4 {
		t.Skip("no int is more than a 32-bit process can have")
	}
	tooMuch := math.MaxInt >> 13 // 2^50 bytes
	_, err := New(tooMuch)
	require.ErrorIs(t, err, unix.ENOMEM)
	require.Equal(t, used, InUse())

	p := newProgram(t)
	require.PanicsWithValue(t, "spawn: out of memory: mmap: cannot allocate memory", func() { p.Alloc(tooMuch) })
}

func TestBytesRefusesWhatIsNotTheProgramsMemory(t *testing.T) {
	p := newProgram(t)
	addr := p.Alloc(8)
	for name, read := range map[string]func(){
		"NULL":             func() { p.Bytes(0, 1) },
		"behind the end":   func() { p.Bytes(addr+8, 1) },
		"across the end":   func() { p.Bytes(addr, 9) },
		"before the start": func() { p.Bytes(uintptr(p.arena.blocks[0].base)-1, 1) },
	} {
		require.Panics(t, read, name)
	}
}

func TestFreeWipesWhatItKeeps(t *testing.T) {
	p := unpooled(t)
	addr := p.CString("the secret")
	p.Hide(addr, 0)
	p.Add(unix.SYS_CLOSE, 1)
	p.Layout()
	first := &p.arena.blocks[0]
	memory := first.slice(0, first.used)
	require.Contains(t, string(memory), "the secret")
	p.Free()

	require.Equal(t, []*Program{p}, pooled())
	require.Equal(t, make([]byte, len(memory)), memory)
}

func TestFreeGivesFurtherBlocksBack(t *testing.T) {
	p := unpooled(t)
	p.Alloc(2 * firstBlock)
	last := p.arena.blocks[len(p.arena.blocks)-1]
	require.True(t, mapped(last))
	p.Free()
	require.False(t, mapped(last))
	require.Len(t, p.arena.blocks, 1)
}

// mapped reports whether the kernel knows the whole block.
func mapped(b block) bool {
	_, _, errno := unix.Syscall(unix.SYS_MSYNC, uintptr(b.base), uintptr(b.size), unix.MS_ASYNC)
	return errno == 0
}

func TestAFreedProgramComesBackEmpty(t *testing.T) {
	p := unpooled(t)
	p.Hide(p.CString("x"), 0)
	p.Add(unix.SYS_CLOSE, 1)
	p.Link(0, p.Add(unix.SYS_CLOSE), 0)
	p.SetStatus(5)
	p.Free()

	q, err := New(0)
	require.NoError(t, err)
	defer q.Free()
	require.Same(t, p, q)
	require.Zero(t, q.Len())
	require.Empty(t, q.String())
	require.Empty(t, q.secrets)
	require.Empty(t, q.links)
	require.Equal(t, uint64(NoStatus), q.word(q.ReportTo()))
	_, failed := q.Failed()
	require.False(t, failed)
}

func TestInUseCountsProgramsThatWereNotFreed(t *testing.T) {
	before := InUse()
	p, err := New(0)
	require.NoError(t, err)
	q, err := New(0)
	require.NoError(t, err)
	require.Equal(t, before+2, InUse())
	p.Free()
	require.Equal(t, before+1, InUse())
	q.Free()
	require.Equal(t, before, InUse())
}

func TestThePoolIsBounded(t *testing.T) {
	emptyPool()
	var programs []*Program
	var blocks []block
	for range maxPooled + 3 {
		p, err := New(0)
		require.NoError(t, err)
		programs = append(programs, p)
		blocks = append(blocks, p.arena.blocks[0])
	}
	for _, p := range programs {
		p.Free()
	}
	require.Len(t, pooled(), maxPooled)
	for i, b := range blocks {
		require.Equal(t, i < maxPooled, mapped(b), "program %d", i)
	}
}

func TestAnIdleProgramKeepsNoMoreThanOneSmallBlock(t *testing.T) {
	emptyPool()
	p, err := New(10 * firstBlock)
	require.NoError(t, err)
	p.Free()
	kept := 0
	for _, b := range p.arena.blocks {
		kept += b.size
	}
	require.LessOrEqual(t, kept, firstBlock)
}

// needAssembly skips a test of the layout that the assembly goes by, where
// there is none.
func needAssembly(t testing.TB) {
	if pointerSize == 4 {
		t.Skip("there is no assembly for a 32-bit processor")
	}
}

func TestLayoutIsTheStructThatTheAssemblyKnows(t *testing.T) {
	needAssembly(t)
	p := newProgram(t)
	p.AddOp(11, Ignore|Retry, 1, 2, 3, 4, 5, 6)
	p.Expect(p.Add(12, 7), math.MaxUint)
	p.StoreStatus(p.Add(13))
	first, end := p.Layout()

	require.Equal(t, uintptr(3*OpSize), end-first)
	require.Equal(t, []uint64{
		11, 1, 2, 3, 4, 5, 6, uint64(Ignore | Retry), 0, 0,
		12, 7, 0, 0, 0, 0, 0, uint64(Expect), 0, math.MaxUint64,
		13, 0, 0, 0, 0, 0, 0, uint64(Store), uint64(p.ReportTo()), 0,
	}, words(p, first, 30))
}

// words returns n words of the program's memory.
func words(p *Program, addr uintptr, n int) []uint64 {
	w := make([]uint64, n)
	for i := range w {
		w[i] = binary.NativeEndian.Uint64(p.Bytes(addr+uintptr(i*wordSize), wordSize))
	}
	return w
}

func TestLinkStoresTheResultWhereTheLaterCallReadsIt(t *testing.T) {
	needAssembly(t)
	p := newProgram(t)
	from := p.Add(unix.SYS_OPENAT)
	p.Add(unix.SYS_GETPPID)
	to := p.Add(unix.SYS_DUP3, 0, 1, 2)
	p.Link(from, to, 1)
	first, _ := p.Layout()

	op := words(p, first, OpSize/wordSize)
	require.Equal(t, uint64(Store), op[7])
	require.Equal(t, uint64(first)+uint64(to*OpSize)+2*wordSize, op[8], "the second argument")

	p.StoreResult(from, 77)
	require.Equal(t, [6]uintptr{0, 77, 2}, p.At(to).Args)
	p.StoreResult(to, 5) // of which nobody wants the result
	require.Equal(t, [6]uintptr{0, 77, 2}, p.At(to).Args)
}

func TestStoreStatusMovesTheStatusDescriptor(t *testing.T) {
	p := newProgram(t)
	p.SetStatus(3)
	i := p.Add(unix.SYS_DUP3, 3, 9)
	p.StoreStatus(i)
	require.Equal(t, uint64(3), p.word(p.ReportTo()))
	p.StoreResult(i, 9)
	require.Equal(t, uint64(9), p.word(p.ReportTo()))
}

func TestDecodeFindsTheCallThatFailed(t *testing.T) {
	p := newProgram(t)
	for range 3 {
		p.Add(unix.SYS_GETPPID)
	}
	var r Report
	binary.NativeEndian.PutUint64(r[:], 2*OpSize)
	binary.NativeEndian.PutUint64(r[8:], uint64(unix.EPERM))
	require.Equal(t, Failure{Op: 2, Errno: unix.EPERM}, p.Decode(r))
	require.Equal(t, Failure{}, p.Decode(Report{}))
}

func TestFailedReadsTheReportInMemory(t *testing.T) {
	p := newProgram(t)
	p.Add(unix.SYS_GETPPID)
	p.Add(unix.SYS_GETPPID)
	_, failed := p.Failed()
	require.False(t, failed)

	report := p.Bytes(p.ReportTo()+wordSize, 16)
	binary.NativeEndian.PutUint64(report, OpSize)
	binary.NativeEndian.PutUint64(report[8:], uint64(unix.ENOENT))
	f, failed := p.Failed()
	require.True(t, failed)
	require.Equal(t, Failure{Op: 1, Errno: unix.ENOENT}, f)
}

func TestDataLiesInMemoryAsTheKernelReadsIt(t *testing.T) {
	p := newProgram(t)
	require.Equal(t, "a=b\x00", string(p.Bytes(p.CString("a", "=", "b"), 4)))
	require.Equal(t, "\x00", string(p.Bytes(p.CString(), 1)))
	require.Equal(t, []uint64{1, math.MaxUint64}, words(p, p.Words(1, math.MaxUint64), 2))

	ids := p.Bytes(p.Uint32s([]uint32{1, math.MaxUint32 - 1, 3}), 12)
	require.Equal(t, uint32(1), binary.NativeEndian.Uint32(ids))
	require.Equal(t, uint32(math.MaxUint32-1), binary.NativeEndian.Uint32(ids[4:]))
	require.Equal(t, uint32(3), binary.NativeEndian.Uint32(ids[8:]))

	argv := p.Pointers(2)
	p.SetPointer(argv, 0, 16)
	p.SetPointer(argv, 1, 32)
	for i, want := range []uintptr{16, 32, 0} {
		require.Equal(t, want, p.pointer(argv+uintptr(i*pointerSize)))
	}
}

func TestProgramsAreMadeAndFreedByManyGoroutinesAtOnce(t *testing.T) {
	before := InUse()
	done := make(chan struct{})
	for range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 200 {
				p, err := New(0)
				if err != nil {
					t.Error(err)
					return
				}
				addr := p.CString(fmt.Sprint(i))
				if got := string(p.Bytes(addr, len(fmt.Sprint(i)))); got != fmt.Sprint(i) {
					t.Errorf("%q", got)
				}
				p.Free()
			}
		}()
	}
	for range 8 {
		<-done
	}
	require.Equal(t, before, InUse())
}

func TestTheResultOfACallIsStoredOnceOnly(t *testing.T) {
	p := newProgram(t)
	from := p.Add(unix.SYS_GETPPID)
	p.Link(from, p.Add(unix.SYS_UMASK, 0), 0)
	require.Panics(t, func() { p.Link(from, p.Add(unix.SYS_UMASK, 0), 0) })
	require.Panics(t, func() { p.StoreStatus(from) })
	status := p.Add(unix.SYS_DUP3, 0, 1, 0)
	p.StoreStatus(status)
	require.Panics(t, func() { p.Link(status, p.Add(unix.SYS_UMASK, 0), 0) })
}

func TestAnEmptyArrayHasAnAddressAlsoInAFullBlock(t *testing.T) {
	p := newProgram(t)
	used := p.arena.blocks[0].used
	p.Alloc(firstBlock - used)
	require.Equal(t, firstBlock, p.arena.blocks[0].used)
	a, b := p.Uint32s(nil), p.Uint32s(nil)
	require.NotEqual(t, a, b)
	require.Empty(t, p.Bytes(a, 0))
}

func TestASharedProgramIsNotKeptForOthers(t *testing.T) {
	before := InUse()
	p, err := NewShared(0)
	require.NoError(t, err)
	require.Equal(t, before+1, InUse())
	kept := len(pool.free)
	p.Free()
	require.Equal(t, before, InUse())
	require.Len(t, pool.free, kept)
}
