//go:build linux

package program

import (
	"encoding/binary"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// firstBlock holds an ordinary program with its environment; a larger one gets
// further blocks.
const firstBlock = 64 << 10

// arena is memory outside the garbage collector's heap, in blocks that do
// not move.
type arena struct {
	blocks []block
	shared bool // with processes that have a copy of this one's memory
}

// block is one anonymous mapping.
type block struct {
	base unsafe.Pointer
	size int
	used int
}

func (b *block) slice(off, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(b.base, off)), n)
}

// reserve makes sure that the last block has room for n bytes.
func (a *arena) reserve(n int) error {
	if last := len(a.blocks) - 1; last >= 0 && a.blocks[last].size-a.blocks[last].used >= n {
		return nil
	}
	return a.grow(n)
}

func (a *arena) grow(size int) error {
	size = (max(size, 1) + firstBlock - 1) &^ (firstBlock - 1)
	flags := unix.MAP_ANONYMOUS | unix.MAP_PRIVATE
	if a.shared {
		flags = unix.MAP_ANONYMOUS | unix.MAP_SHARED
	}
	base, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return err
	}
	a.blocks = append(a.blocks, block{base: base, size: size})
	return nil
}

// used returns how many bytes were allocated.
func (a *arena) used() (n int) {
	for i := range a.blocks {
		n += a.blocks[i].used
	}
	return n
}

// alloc returns the address of n zeroed bytes, aligned to a word. It panics
// when the kernel has no memory left, as Go's own allocator does.
func (a *arena) alloc(n int) uintptr {
	// An empty array has an address too.
	n = max((n+wordSize-1)&^(wordSize-1), wordSize)
	if err := a.reserve(n); err != nil {
		panic("spawn: out of memory: mmap: " + err.Error())
	}
	b := &a.blocks[len(a.blocks)-1]
	addr := uintptr(b.base) + uintptr(b.used)
	b.used += n
	return addr
}

// bytes returns the n bytes at addr.
//
// Preconditions: they were allocated from the arena since its last reset;
// otherwise it panics.
func (a *arena) bytes(addr uintptr, n int) []byte {
	for i := len(a.blocks) - 1; i >= 0; i-- {
		b := &a.blocks[i]
		off := addr - uintptr(b.base) // huge when addr lies before the block
		if off < uintptr(b.size) {
			if n > b.used-int(off) {
				break
			}
			return b.slice(int(off), n)
		}
	}
	panic("spawn: address outside the program's memory")
}

// tail returns what was allocated from addr to the end of its block, or nil
// when addr is not the arena's.
func (a *arena) tail(addr uintptr) []byte {
	for i := range a.blocks {
		b := &a.blocks[i]
		if off := addr - uintptr(b.base); off < uintptr(b.used) {
			return b.slice(int(off), b.used-int(off))
		}
	}
	return nil
}

func (a *arena) setWord(addr uintptr, w uint64) {
	binary.NativeEndian.PutUint64(a.bytes(addr, wordSize), w)
}

func (a *arena) setPointer(addr, value uintptr) {
	putPointer(a.bytes(addr, pointerSize), value)
}

// putOps copies ops to addr.
//
// Preconditions: len(ops)*OpSize bytes were allocated at addr; Op has no
// padding and no Go pointers.
func (a *arena) putOps(addr uintptr, ops []Op) {
	if len(ops) == 0 {
		return
	}
	src := unsafe.Slice((*byte)(unsafe.Pointer(&ops[0])), len(ops)*OpSize)
	copy(a.bytes(addr, len(src)), src)
}

var _ [OpSize]struct{} = [unsafe.Sizeof(Op{})]struct{}{}

// reset wipes what was used and gives back all blocks but one of the
// usual size.
func (a *arena) reset() {
	kept := a.blocks[:0]
	for _, b := range a.blocks {
		if len(kept) > 0 || b.size > firstBlock {
			b.unmap()
			continue
		}
		clear(b.slice(0, b.used))
		b.used = 0
		kept = append(kept, b)
	}
	// No stale pointer for the garbage collector to find.
	clear(a.blocks[len(kept):])
	a.blocks = kept
}

// close gives back every block.
func (a *arena) close() {
	for i := range a.blocks {
		a.blocks[i].unmap()
	}
	a.blocks = nil
}

func (b *block) unmap() {
	// munmap of a whole mapping of ours fails only when the bookkeeping
	// is wrong.
	if err := unix.MunmapPtr(b.base, uintptr(b.size)); err != nil {
		panic("spawn: munmap: " + err.Error())
	}
}

// maxPooled bounds the memory that idle programs keep: 32 × 64 KiB.
const maxPooled = 32

// pool keeps programs for reuse: a mapping costs more than a whole program's
// worth of building it.
var pool programPool

type programPool struct {
	mu   sync.Mutex
	free []*Program
	used int // taken and not put back
}

// InUse returns the number of programs that were made and not freed. It is for
// tests that look for leaks.
func InUse() int {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	return pool.used
}

// count counts a program that does not come from the pool.
func (l *programPool) count() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used++
}

func (l *programPool) get() *Program {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used++
	if len(l.free) == 0 {
		return nil
	}
	p := l.free[len(l.free)-1]
	l.free = l.free[:len(l.free)-1]
	return p
}

// put reports whether p was kept.
func (l *programPool) put(p *Program) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used--
	if p.arena.shared || len(l.free) >= maxPooled {
		return false
	}
	l.free = append(l.free, p)
	return true
}
