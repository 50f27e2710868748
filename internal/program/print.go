//go:build linux

package program

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// String prints the program, one call a line.
func (p *Program) String() string {
	var b strings.Builder
	for i := range p.ops {
		b.WriteString(p.Op(i))
		b.WriteByte('\n')
	}
	return b.String()
}

// Op prints call i as strace(1) would, with its expected result, or that in the
// process that goes on, where the result matters.
func (p *Program) Op(i int) string {
	op := &p.ops[i]
	s := p.call(op.Nr, op.Args[:], p.linked(i))
	if op.Flags&Expect != 0 {
		s += " = " + strconv.FormatInt(int64(op.Expect), 10)
	}
	if op.Flags&Leave != 0 { // in the process that goes on
		s += " = 0"
	}
	return s
}

// Step names call i for an error: as Op does, but execve only with its path,
// and a function of the host program only with its name.
func (p *Program) Step(i int) string {
	op := &p.ops[i]
	switch op.Nr {
	case unix.SYS_EXECVE:
		return "execve(" + quotedString(p, op.Args[0]) + ")"
	case unix.SYS_EXECVEAT:
		return "execveat(" + signed(p, op.Args[0]) + ", " + quotedString(p, op.Args[1]) + ")"
	case HookNr:
		return "hook(" + quotedString(p, op.Args[0]) + ")"
	}
	return p.Op(i)
}

// linked returns, for each argument of call i, the earlier call whose result it
// takes, or -1.
func (p *Program) linked(i int) [6]int {
	from := [6]int{-1, -1, -1, -1, -1, -1}
	for _, l := range p.links {
		if l.to == i {
			from[l.arg] = l.from
		}
	}
	return from
}

func (p *Program) call(nr uintptr, args []uintptr, from [6]int) string {
	c, ok := calls[nr]
	if !ok {
		c = call{name: "syscall_" + strconv.Itoa(int(nr)), args: []format{hex, hex, hex, hex, hex, hex}}
	}
	if c.variant != nil {
		if v, ok := c.variant(args); ok {
			c = v
		}
	}
	printed := make([]string, len(c.args))
	for i, f := range c.args {
		printed[i] = f(p, args[i])
	}
	if c.sized != nil {
		c.sized(p, args, printed)
	}
	for i := range printed {
		if from[i] >= 0 {
			printed[i] = p.result(from[i])
		}
	}
	return c.name + "(" + strings.Join(printed, ", ") + ")"
}

// result prints the result of an earlier call: a file, as strace -y does, or
// the call's place in the list.
func (p *Program) result(i int) string {
	if op := &p.ops[i]; op.Nr == unix.SYS_OPENAT {
		path, _ := p.text(op.Args[1])
		return "<" + p.below[i] + path + ">"
	}
	return "<result of call " + strconv.Itoa(i+1) + ">"
}

// text returns the C string at addr and, when it is a secret, how much of it
// may be shown, else -1.
func (p *Program) text(addr uintptr) (s string, shown int) {
	b := p.arena.tail(addr)
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	for _, x := range p.secrets {
		if x.addr == addr {
			return string(b[:x.shown]), x.shown
		}
	}
	return string(b), -1
}

// quote quotes as strace does: octal escapes for what is not printable ASCII.
func quote(s string) string {
	b := make([]byte, 0, len(s)+2)
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		case '\r':
			b = append(b, '\\', 'r')
		default:
			if c >= ' ' && c < 0x7f {
				b = append(b, c)
				continue
			}
			b = append(b, '\\')
			if i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '7' {
				// A digit behind must not join the escape.
				b = append(b, '0'+c>>6, '0'+c>>3&7, '0'+c&7)
				continue
			}
			b = strconv.AppendUint(b, uint64(c), 8)
		}
	}
	return string(append(b, '"'))
}

// format prints one argument.
type format func(p *Program, v uintptr) string

type call struct {
	name string
	args []format
	// variant returns how to print these arguments, where that depends on the
	// first one.
	variant func(args []uintptr) (call, bool)
	// sized prints, among the arguments printed already, the one whose length
	// another one tells.
	sized func(p *Program, args []uintptr, printed []string)
}

// flagName is one bit, or a group of bits that is tested as a whole, of
// a flags argument.
type flagName struct {
	bits uint64
	name string
}

// flags prints the names of the bits set in v, the rest in hexadecimal, and
// none when there are none.
func flags(none string, names ...flagName) format {
	return func(_ *Program, v uintptr) string { return joinFlags(uint64(v), none, names) }
}

func joinFlags(v uint64, none string, names []flagName) string {
	var s []string
	for _, n := range names {
		if v&n.bits == n.bits {
			s = append(s, n.name)
			v &^= n.bits
		}
	}
	if v != 0 {
		s = append(s, "0x"+strconv.FormatUint(v, 16))
	}
	if len(s) == 0 {
		return none
	}
	return strings.Join(s, "|")
}

// enum prints the name of v, or its number.
func enum(names map[uintptr]string) format {
	return func(p *Program, v uintptr) string {
		if name, ok := names[v]; ok {
			return name
		}
		return signed(p, v)
	}
}

// signed prints an int, of which only the low 32 bits count.
func signed(_ *Program, v uintptr) string { return strconv.Itoa(int(int32(v))) }

func unsigned(_ *Program, v uintptr) string { return strconv.FormatUint(uint64(v), 10) }

func hex(_ *Program, v uintptr) string {
	if v == 0 {
		return "0"
	}
	return "0x" + strconv.FormatUint(uint64(v), 16)
}

func octal(_ *Program, v uintptr) string {
	if v == 0 {
		return "0"
	}
	return "0" + strconv.FormatUint(uint64(v), 8)
}

// pointer prints a pointer whose target says nothing.
func pointer(p *Program, v uintptr) string {
	if v == 0 {
		return "NULL"
	}
	return hex(p, v)
}

func quotedString(p *Program, addr uintptr) string {
	if addr == 0 {
		return "NULL"
	}
	s, shown := p.text(addr)
	if shown >= 0 {
		return quote(s + "***")
	}
	return quote(s)
}

// quotedStrings prints a NULL-terminated array of strings, such as argv.
func quotedStrings(p *Program, addr uintptr) string {
	if addr == 0 {
		return "NULL"
	}
	var s []string
	for ; ; addr += pointerSize {
		at := p.pointer(addr)
		if at == 0 {
			return "[" + strings.Join(s, ", ") + "]"
		}
		s = append(s, quotedString(p, at))
	}
}

// maxDescriptor is the last argument of a close_range without upper bound.
func maxDescriptor(p *Program, v uintptr) string {
	if v == uintptr(^uint32(0)) {
		return "~0U"
	}
	return unsigned(p, v)
}

func dirDescriptor(p *Program, v uintptr) string {
	if int32(v) == unix.AT_FDCWD {
		return "AT_FDCWD"
	}
	return signed(p, v)
}

// id prints a uid or gid, -1 for the one that stays as it is.
func id(p *Program, v uintptr) string {
	if uint32(v) == ^uint32(0) {
		return "-1"
	}
	return strconv.FormatUint(uint64(uint32(v)), 10)
}

// sizedGroups prints the list of a setgroups(2).
func sizedGroups(p *Program, args []uintptr, printed []string) {
	s := make([]string, args[0])
	for i := range s {
		gid := binary.NativeEndian.Uint32(p.Bytes(args[1]+uintptr(i*4), 4))
		s[i] = strconv.FormatUint(uint64(gid), 10)
	}
	printed[1] = "[" + strings.Join(s, ", ") + "]"
}

// sizedData prints the data of a write(2).
func sizedData(p *Program, args []uintptr, printed []string) {
	printed[1] = quote(string(p.Bytes(args[1], int(args[2]))))
}
