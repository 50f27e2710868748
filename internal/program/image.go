//go:build linux

package program

import (
	"encoding/binary"
	"slices"
)

// Image is a part of a program as it lies in the memory of another process,
// where it can be run at once.
type Image struct {
	// First and End are the addresses of the first op and of the end of the
	// list, and Report is as of ReportTo.
	First, End, Report uintptr
}

// AppendImage appends to b what is to stand at the address base of another
// process: all of the program's memory, with the ops of a part, 0 for what was
// added before the first Split. There the status descriptor is another number.
//
// Preconditions: as for Encode, on a processor with addresses of 64 bits.
func (p *Program) AppendImage(b []byte, part int, base uintptr, status int) ([]byte, Image) {
	first, end := p.layout(part)
	start := len(b)
	// once: what is left behind may not be cleared
	b = slices.Grow(b, p.arena.used())
	for i := range p.arena.blocks {
		k := &p.arena.blocks[i]
		b = append(b, k.slice(0, k.used)...)
	}
	m := Image{First: p.moved(first, base), Report: p.moved(p.report, base)}
	m.End = m.First + (end - first)
	image := b[start:]
	move := func(at uintptr) {
		w := image[p.moved(at, base)-base:][:pointerSize]
		putPointer(w, p.moved(getPointer(w), base))
	}
	from, to := p.part(part)
	for i, at := from, first; i < to; i, at = i+1, at+OpSize {
		op := &p.ops[i]
		for j, arg := range op.Args {
			// What is in the program's memory is an address: see
			// mustKnowAddresses.
			if p.has(arg, 1) {
				move(at + uintptr(1+j)*pointerSize)
			}
		}
		if op.Flags&Store != 0 {
			move(at + 8*pointerSize)
		}
	}
	for _, at := range p.pointers {
		move(at)
	}
	binary.NativeEndian.PutUint64(image[m.Report-base:], uint64(status))
	return b, m
}

// moved returns the address of what is at addr, in an image at base; addr
// itself where it is not the program's.
func (p *Program) moved(addr, base uintptr) uintptr {
	for i := range p.arena.blocks {
		k := &p.arena.blocks[i]
		if off := addr - uintptr(k.base); off < uintptr(k.used) {
			return base + off
		}
		base += uintptr(k.used)
	}
	return addr
}

func getPointer(b []byte) uintptr {
	if pointerSize == 4 {
		return uintptr(binary.NativeEndian.Uint32(b))
	}
	return uintptr(binary.NativeEndian.Uint64(b))
}

func putPointer(b []byte, v uintptr) {
	if pointerSize == 4 {
		binary.NativeEndian.PutUint32(b, uint32(v))
		return
	}
	binary.NativeEndian.PutUint64(b, uint64(v))
}
