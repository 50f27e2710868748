//go:build linux

package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"strconv"

	"golang.org/x/sys/unix"
)

// A program can be divided: one executor runs what was added before the first
// Split. The parts behind it travel to other processes, whose executors run
// them from there: the last one as bytes for Decode, or one as an Image.

// HookNr is the number of a call that no kernel has: a function of the host
// program, by its name, with an argument. Only package helper knows how to
// make it.
const HookNr = 1 << 24

// AddHook appends a call of a function of the host program.
func (p *Program) AddHook(name, arg string) int {
	return p.Add(HookNr, p.CString(name), p.CString(arg))
}

// Hook returns the function's name and argument, if op i is one.
func (p *Program) Hook(i int) (name, arg string, ok bool) {
	op := &p.ops[i]
	if op.Nr != HookNr {
		return "", "", false
	}
	name, _ = p.text(op.Args[0])
	arg, _ = p.text(op.Args[1])
	return name, arg, true
}

// Track makes the program remember where its pointers are, which Encode needs.
// It comes before the first of them.
func (p *Program) Track() { p.track = true }

// Split ends a part of the program behind what was added so far.
func (p *Program) Split() { p.splits = append(p.splits, len(p.ops)) }

// part returns the places of the first op of a part, and of the end of it.
func (p *Program) part(i int) (first, end int) {
	if i > 0 {
		first = p.splits[i-1]
	}
	end = len(p.ops)
	if i < len(p.splits) {
		end = p.splits[i]
	}
	return first, end
}

// An encoded program is a sequence of 64-bit words of this machine, and then
// the blocks of memory:
//
//	magic, size of a pointer, number of bytes, checksum of all that follows
//	place of the first op in the whole list, address of the text of the pid
//	the numbers of ops, links, blocks and pointers; of each
//	op: number, six arguments, flags, expected result
//	link: from, to (places in the whole list), argument
//	block: address, size in bytes
//	pointer: address
const (
	magic       = 0x31307764706e7773 // arbitrary
	headerWords = 4
	opWords     = 9
)

var checksums = crc64.MakeTable(crc64.ECMA)

// Encode returns the part of the program behind the last Split, or all of it,
// for Decode.
//
// Preconditions: Track was called before the first SetPointer. No result
// of a call before that Split is linked to one behind it, or is the
// status descriptor.
func (p *Program) Encode() []byte {
	split, _ := p.part(len(p.splits))
	ops := p.ops[split:]
	var links []link
	for _, l := range p.links {
		if l.from >= split {
			links = append(links, l)
		}
	}
	size := wordSize * (headerWords + 6 + opWords*len(ops) + 3*len(links) + 2*len(p.arena.blocks) + len(p.pointers))
	// once: what is left behind is not cleared
	b := make([]byte, 0, size+p.arena.used())
	word := func(words ...uint64) {
		for _, w := range words {
			b = binary.NativeEndian.AppendUint64(b, w)
		}
	}
	word(magic, pointerSize, 0, 0)
	word(uint64(split), uint64(p.pid), uint64(len(ops)), uint64(len(links)), uint64(len(p.arena.blocks)), uint64(len(p.pointers)))
	for i := range ops {
		op := &ops[i]
		word(uint64(op.Nr))
		for _, a := range op.Args {
			word(uint64(a))
		}
		word(uint64(op.Flags), uint64(op.Expect))
	}
	for _, l := range links {
		word(uint64(l.from), uint64(l.to), uint64(l.arg))
	}
	for i := range p.arena.blocks {
		k := &p.arena.blocks[i]
		word(uint64(uintptr(k.base)), uint64(k.used))
	}
	for _, at := range p.pointers {
		word(uint64(at))
	}
	for i := range p.arena.blocks {
		k := &p.arena.blocks[i]
		b = append(b, k.slice(0, k.used)...)
	}
	seal(b)
	return b
}

// seal sets the number of bytes and their checksum.
func seal(b []byte) {
	if len(b) >= headerWords*wordSize {
		binary.NativeEndian.PutUint64(b[2*wordSize:], uint64(len(b)))
		binary.NativeEndian.PutUint64(b[3*wordSize:], crc64.Checksum(b[headerWords*wordSize:], checksums))
	}
}

// errEncoding is what Decode says of anything that Encode has not made.
var errEncoding = errors.New("not an encoded program")

// decoder reads words.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) word() uint64 {
	if len(d.b) < wordSize {
		d.failed = true
		return 0
	}
	w := binary.NativeEndian.Uint64(d.b)
	d.b = d.b[wordSize:]
	return w
}

// count reads a number of things of so many words each, which must all
// be there.
func (d *decoder) count(words int) int {
	n := d.word()
	if n > uint64(len(d.b)/(words*wordSize)) {
		d.failed = true
		return 0
	}
	return int(n)
}

// moved is a block that has another address in this process.
type moved struct{ old, size, now uint64 }

// Decode returns the program that Encode has made bytes of, and the place of
// its first op in the whole list. It refuses anything else, without being able
// to tell a forgery: whose bytes they are is the caller's to know.
func Decode(b []byte) (p *Program, first int, err error) {
	d := &decoder{b: b}
	if d.word() != magic || d.word() != pointerSize || d.word() != uint64(len(b)) || d.word() != crc64.Checksum(d.b, checksums) || d.failed {
		return nil, 0, errEncoding
	}
	start, pid := d.word(), d.word()
	nops, nlinks, nblocks, npointers := d.count(opWords), d.count(3), d.count(2), d.count(1)
	p, err = New(len(b) + nblocks*wordSize)
	if err != nil {
		return nil, 0, err
	}
	if err := p.decode(d, start, pid, nops, nlinks, nblocks, npointers); err != nil {
		p.Free()
		return nil, 0, err
	}
	return p, int(start), nil
}

// decode reads what comes after the counts.
func (p *Program) decode(d *decoder, start, pid uint64, nops, nlinks, nblocks, npointers int) error {
	for range nops {
		op := Op{Nr: uintptr(d.word())}
		for i := range op.Args {
			op.Args[i] = uintptr(d.word())
		}
		op.Flags, op.Expect = Flag(d.word()), uintptr(d.word())
		p.ops = append(p.ops, op)
	}
	for range nlinks {
		from, to, arg := d.word()-start, d.word()-start, d.word()
		if from >= to || to >= uint64(nops) || arg >= uint64(len(Op{}.Args)) {
			return fmt.Errorf("%w: a link of calls %d and %d", errEncoding, from, to)
		}
		p.links = append(p.links, link{int(from), int(to), int(arg)})
	}
	blocks := make([]moved, nblocks)
	for i := range blocks {
		blocks[i] = moved{old: d.word(), size: d.word()}
	}
	pointers := make([]uint64, npointers)
	for i := range pointers {
		pointers[i] = d.word()
	}
	for i := range blocks {
		k := &blocks[i]
		if k.size > uint64(len(d.b)) {
			return fmt.Errorf("%w: a block of %d bytes", errEncoding, k.size)
		}
		addr := p.Alloc(int(k.size))
		k.now = uint64(addr)
		copy(p.Bytes(addr, int(k.size)), d.b)
		d.b = d.b[k.size:]
	}
	if d.failed || len(d.b) > 0 {
		return errEncoding
	}
	p.relocate(blocks, pointers, pid)
	return nil
}

// addressArguments says which arguments of a call may be addresses, as a mask.
// On a 32-bit processor a flag or an id can look like one.
var addressArguments = map[uintptr]uint{
	unix.SYS_CAPSET:             1<<0 | 1<<1,
	unix.SYS_CHDIR:              1 << 0,
	unix.SYS_CHROOT:             1 << 0,
	unix.SYS_CLONE:              1 << 2,
	unix.SYS_CLONE3:             1 << 0,
	unix.SYS_EXECVE:             1<<0 | 1<<1 | 1<<2,
	unix.SYS_EXECVEAT:           1<<1 | 1<<2 | 1<<3,
	SysFcntl:                    1 << 2,
	HookNr:                      1<<0 | 1<<1,
	unix.SYS_MOUNT:              1<<0 | 1<<1 | 1<<2 | 1<<4,
	unix.SYS_OPENAT:             1 << 1,
	unix.SYS_PPOLL:              1<<0 | 1<<2 | 1<<3,
	unix.SYS_PRLIMIT64:          1<<2 | 1<<3,
	unix.SYS_READ:               1 << 1,
	unix.SYS_RENAMEAT2:          1<<1 | 1<<3,
	unix.SYS_RT_SIGACTION:       1<<1 | 1<<2,
	unix.SYS_RT_SIGPROCMASK:     1<<1 | 1<<2,
	unix.SYS_SCHED_SETAFFINITY:  1 << 2,
	unix.SYS_SCHED_SETATTR:      1 << 1,
	unix.SYS_SCHED_SETSCHEDULER: 1 << 2,
	unix.SYS_SECCOMP:            1 << 2,
	unix.SYS_SET_MEMPOLICY:      1 << 1,
	SysSetgroups:                1 << 1,
	unix.SYS_WRITE:              1 << 1,
}

// isAddress reports whether argument arg of a call may be an address.
func isAddress(nr uintptr, arg int) bool { return addressArguments[nr]&(1<<arg) != 0 }

// mustKnowAddresses panics where an argument is an address that would not
// be one in another process: only on a 64-bit processor can it be told from
// anything else.
func (p *Program) mustKnowAddresses(op *Op) {
	for i, a := range op.Args {
		if pointerSize == 8 && p.has(a, 1) && !isAddress(op.Nr, i) {
			panic("spawn: argument " + strconv.Itoa(i) + " of system call " + strconv.Itoa(int(op.Nr)) + " is not known as an address")
		}
	}
}

// relocate makes the arguments and pointers point to the blocks where they
// are now.
func (p *Program) relocate(blocks []moved, pointers []uint64, pid uint64) {
	now := func(addr uint64) (uint64, bool) {
		for _, k := range blocks {
			if addr-k.old < k.size {
				return k.now + addr - k.old, true
			}
		}
		return addr, false
	}
	for i := range p.ops {
		op := &p.ops[i]
		for j := range op.Args {
			if isAddress(op.Nr, j) {
				a, _ := now(uint64(op.Args[j]))
				op.Args[j] = uintptr(a)
			}
		}
	}
	for _, at := range pointers {
		if slot, ok := now(at); ok && p.has(uintptr(slot), pointerSize) {
			target, _ := now(uint64(p.pointer(uintptr(slot))))
			p.arena.setPointer(uintptr(slot), uintptr(target))
		}
	}
	if at, ok := now(pid); ok && p.has(uintptr(at), maxPIDDigits) {
		p.pid = uintptr(at)
	}
}

// has reports whether n bytes at addr are the program's.
func (p *Program) has(addr uintptr, n int) bool { return len(p.arena.tail(addr)) >= n }
