//go:build linux

// Package program holds what a child does between its creation and execve:
// a flat list of system calls.
//
// A [Program] is built by the parent, in ordinary Go. Every string, array
// and struct that a call points to lies in memory that the garbage collector
// does not own and that does not move, so an executor can walk the list where
// no Go code may run: in a process that shares this one's memory and has
// no goroutine.
//
// A call that fails is reported by its place in the list; [Program.Op] turns
// that place back into text as strace(1) would print it, and [Program.String]
// prints the whole list.
package program

import (
	"encoding/binary"
	"math"
	"strconv"
	"syscall"
)

// Flag says what an executor does with the result of an op. Without flags a
// failure is reported and ends the child, and a success goes on to the next op.
type Flag uintptr

const (
	// Ignore goes on after a failure.
	Ignore Flag = 1 << iota
	// Store writes the result to the word at Op.Store.
	Store
	// Expect fails, with errno 0, when the result is not Op.Expect.
	Expect
	// Retry calls again after EINTR.
	Retry
	// Leave ends the child with status 0 when the result is not zero: the first
	// parent, once it has forked the process of the program.
	Leave
)

// Op is one system call. Its layout is known to the assembly in package child.
type Op struct {
	Nr     uintptr
	Args   [6]uintptr
	Flags  Flag
	Store  uintptr // address of a word, with flag Store
	Expect uintptr // with flag Expect
}

// OpSize is the size of an Op in bytes, and the unit in which a place in the
// list is reported.
const OpSize = 10 * pointerSize

const (
	wordSize    = 8
	pointerSize = 4 << (^uintptr(0) >> 63)
)

// Program is a list of ops and the memory that they point to. It is not safe
// for concurrent use.
type Program struct {
	arena   arena
	ops     []Op
	links   []link
	secrets []secret
	below   map[int]string // see Below
	// address of the three words of a report: see ReportTo
	report uintptr

	splits   []int // see Split
	track    bool
	pointers []uintptr // addresses of pointers, with track
	pid      uintptr   // see PIDText
}

// link is an argument that an executor fills in with the result of an
// earlier op.
type link struct{ from, to, arg int }

// secret is a string of which only the first bytes may be shown.
type secret struct {
	addr  uintptr
	shown int
}

// New returns an empty program, from a pool where possible. The caller gives it
// back with Free. At least size bytes can be allocated from it; beyond that an
// allocation for which the kernel has no memory panics.
func New(size int) (*Program, error) {
	p := pool.get()
	if p == nil {
		p = &Program{ops: make([]Op, 0, 96)}
	}
	return p.init(size)
}

// NewShared is New for a program that is run by a process with a copy of this
// one's memory: what that one writes in the program's memory, its report too,
// is seen here.
func NewShared(size int) (*Program, error) {
	pool.count()
	p := &Program{arena: arena{shared: true}}
	return p.init(size)
}

func (p *Program) init(size int) (*Program, error) {
	if err := p.arena.reserve(size); err != nil {
		p.Free()
		return nil, err
	}
	p.report = p.Words(NoStatus, noFailure, 0)
	return p, nil
}

// Free wipes the program's memory, which may hold secrets, and gives it back.
//
// Preconditions: no process runs the program in this address space any more.
func (p *Program) Free() {
	p.ops = p.ops[:0]
	p.links = p.links[:0]
	p.secrets = p.secrets[:0]
	p.splits, p.pointers = p.splits[:0], p.pointers[:0]
	p.track, p.pid, p.below = false, 0, nil
	p.arena.reset()
	if !pool.put(p) {
		p.arena.close()
	}
}

// Add appends a call and returns its place in the list.
func (p *Program) Add(nr uintptr, args ...uintptr) int {
	return p.AddOp(nr, 0, args...)
}

// AddOp appends a call with flags and returns its place in the list.
func (p *Program) AddOp(nr uintptr, flags Flag, args ...uintptr) int {
	op := Op{Nr: nr, Flags: flags}
	copy(op.Args[:], args)
	if p.track {
		p.mustKnowAddresses(&op)
	}
	p.ops = append(p.ops, op)
	return len(p.ops) - 1
}

// Below says what directory the path of op i, an openat, is below, so that its
// result prints with the whole path.
func (p *Program) Below(i int, dir string) {
	if p.below == nil {
		p.below = map[int]string{}
	}
	p.below[i] = dir
}

// Expect makes op i fail unless its result is value.
func (p *Program) Expect(i int, value uintptr) {
	p.ops[i].Flags |= Expect
	p.ops[i].Expect = value
}

// Link passes the result of op from as argument arg of the later op to. An op
// has one place for its result: a second Link or StoreStatus for it panics.
func (p *Program) Link(from, to, arg int) {
	p.mustNotStore(from)
	p.ops[from].Flags |= Store
	p.links = append(p.links, link{from, to, arg})
}

// StoreStatus makes the result of op i the descriptor to which later failures
// are reported.
func (p *Program) StoreStatus(i int) {
	p.StoreAt(i, p.report)
}

// StoreAt makes the result of op i go to a word at an address, which is that of
// an Image where it is not in the program's memory.
func (p *Program) StoreAt(i int, addr uintptr) {
	p.mustNotStore(i)
	p.ops[i].Flags |= Store
	p.ops[i].Store = addr
}

func (p *Program) mustNotStore(i int) {
	if p.ops[i].Flags&Store != 0 {
		panic("spawn: the result of a call is stored twice")
	}
}

// NoStatus is the status descriptor of a program whose report is read from its
// memory only.
const NoStatus = math.MaxUint64

// noFailure stands in the place of a failed op as long as none has failed.
const noFailure = math.MaxUint64

// SetStatus sets the descriptor to which the child writes a Report of
// a failure, as the child first sees it.
func (p *Program) SetStatus(fd int) { p.arena.setWord(p.report, uint64(fd)) }

// ReportTo returns the address of three words: the descriptor to report to,
// and the two words of a Report, which the executor sets before it writes
// them there.
func (p *Program) ReportTo() uintptr { return p.report }

// Failed returns the failure that an executor has reported in the program's
// memory, if any.
//
// Preconditions: the executor shared this memory, and has left it.
func (p *Program) Failed() (f Failure, failed bool) {
	var r Report
	copy(r[:], p.Bytes(p.report+wordSize, len(r)))
	return p.Decode(r), binary.NativeEndian.Uint64(r[:]) != noFailure
}

// Len returns the number of ops.
func (p *Program) Len() int { return len(p.ops) }

// At returns op i as it was added. It is valid until the next Add.
func (p *Program) At(i int) *Op { return &p.ops[i] }

// StoreResult does what flag Store of op i asks for, for an executor that goes
// by At and not by Layout.
func (p *Program) StoreResult(i int, result uintptr) {
	if p.ops[i].Store == p.report {
		p.arena.setWord(p.report, uint64(result))
	}
	for _, l := range p.links {
		if l.from == i {
			p.ops[l.to].Args[l.arg] = result
		}
	}
}

// Layout copies the ops of the first part into the program's memory and returns
// the addresses of the first one and of the end of the list. What is added
// afterwards has no effect until Layout is called again.
func (p *Program) Layout() (first, end uintptr) { return p.layout(0) }

func (p *Program) layout(part int) (first, end uintptr) {
	from, to := p.part(part)
	ops := p.ops[from:to]
	first = p.Alloc(len(ops) * OpSize)
	for _, l := range p.links {
		if from <= l.from && l.from < to {
			p.ops[l.from].Store = first + uintptr((l.to-from)*OpSize+(1+l.arg)*pointerSize)
		}
	}
	p.arena.putOps(first, ops)
	return first, first + uintptr(len(ops)*OpSize)
}

// Report is what a child writes before it ends when an op failed: the op's
// offset from the first one, and the errno.
type Report [16]byte

// Failure says which op failed and how.
type Failure struct {
	Op int // place in the list
	// 0 when the call succeeded with a result that was not expected.
	Errno   syscall.Errno
	Message string // of a function of the host program
}

// Decode reads a child's report.
func (p *Program) Decode(r Report) Failure {
	offset := binary.NativeEndian.Uint64(r[:8])
	errno := binary.NativeEndian.Uint64(r[8:])
	return Failure{Op: int(offset / OpSize), Errno: syscall.Errno(errno)}
}

// Alloc returns the address of n zeroed bytes, aligned to a word.
func (p *Program) Alloc(n int) uintptr { return p.arena.alloc(n) }

// CString copies the parts of a string, with a NUL byte behind them, and
// returns its address.
func (p *Program) CString(parts ...string) uintptr {
	n := 0
	for _, s := range parts {
		n += len(s)
	}
	addr := p.arena.alloc(n + 1)
	b := p.arena.bytes(addr, n)
	for _, s := range parts {
		b = b[copy(b, s):]
	}
	return addr
}

// Hide makes the printer show only the first shown bytes of the string at addr,
// and *** for the rest.
func (p *Program) Hide(addr uintptr, shown int) {
	p.secrets = append(p.secrets, secret{addr, shown})
}

// Words copies 64-bit words, such as a struct rlimit, and returns
// their address.
func (p *Program) Words(words ...uint64) uintptr {
	addr := p.arena.alloc(len(words) * wordSize)
	for i, w := range words {
		p.arena.setWord(addr+uintptr(i*wordSize), w)
	}
	return addr
}

// Uint32s copies 32-bit words, such as a list of groups, and returns
// their address.
func (p *Program) Uint32s(values []uint32) uintptr {
	addr := p.arena.alloc(len(values) * 4)
	b := p.arena.bytes(addr, len(values)*4)
	for i, v := range values {
		binary.NativeEndian.PutUint32(b[i*4:], v)
	}
	return addr
}

// Pointers allocates a NULL-terminated array of n pointers, such as argv.
func (p *Program) Pointers(n int) uintptr { return p.arena.alloc((n + 1) * pointerSize) }

// SetPointer sets element i of an array made by Pointers.
func (p *Program) SetPointer(array uintptr, i int, addr uintptr) {
	at := array + uintptr(i*pointerSize)
	p.arena.setPointer(at, addr)
	if p.track {
		p.pointers = append(p.pointers, at)
	}
}

// maxPIDDigits is the room for a pid and a NUL.
const maxPIDDigits = 20

// PIDText returns the address of a string that begins with prefix and then has
// the child's pid, once SetPID was called. There is one at most.
func (p *Program) PIDText(prefix string) uintptr {
	addr := p.Alloc(len(prefix) + maxPIDDigits)
	p.pid = addr + uintptr(copy(p.Bytes(addr, len(prefix)+maxPIDDigits), prefix+"PID")-len("PID"))
	return addr
}

// PIDRoom returns the room for the pid in what PIDText has returned.
func (p *Program) PIDRoom() (addr uintptr, n int) { return p.pid, maxPIDDigits }

// SetPID fills in the child's pid where PIDText wants it.
func (p *Program) SetPID(pid int) {
	if p.pid != 0 {
		b := p.Bytes(p.pid, maxPIDDigits)
		clear(b)
		copy(b[:maxPIDDigits-1], strconv.Itoa(pid))
	}
}

// Bytes returns the n bytes at addr, which must lie in the program's memory.
// They are valid until Free.
func (p *Program) Bytes(addr uintptr, n int) []byte { return p.arena.bytes(addr, n) }

// pointer returns the pointer at addr.
func (p *Program) pointer(addr uintptr) uintptr {
	return getPointer(p.arena.bytes(addr, pointerSize))
}

// word returns the 64-bit word at addr.
func (p *Program) word(addr uintptr) uint64 {
	return binary.NativeEndian.Uint64(p.arena.bytes(addr, wordSize))
}
