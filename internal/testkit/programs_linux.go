package testkit

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// TinyProgram writes a static program that only exits with code 0, so that its
// own work does not hide the cost of starting it, and returns its path.
func TinyProgram(t testing.TB) string {
	return WriteProgram(t, "tiny", map[string][]byte{
		"amd64": {
			0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
			0x31, 0xff, // xor edi, edi
			0x0f, 0x05, // syscall
		},
		"386": {
			0xb8, 1, 0, 0, 0, // mov eax, SYS_exit
			0x31, 0xdb, // xor ebx, ebx
			0xcd, 0x80, // int 0x80
		},
		"arm64": {
			0xa8, 0x0b, 0x80, 0xd2, // mov x8, SYS_exit
			0x00, 0x00, 0x80, 0xd2, // mov x0, 0
			0x01, 0x00, 0x00, 0xd4, // svc 0
		},
		"riscv64": {
			0x93, 0x08, 0xd0, 0x05, // li a7, SYS_exit
			0x13, 0x05, 0x00, 0x00, // li a0, 0
			0x73, 0x00, 0x00, 0x00, // ecall
		},
	})
}

// HelloProgram writes a static program that prints "hello" and a line feed, and
// returns its path.
func HelloProgram(t testing.TB) string {
	text := "hello\n"
	return WriteProgram(t, "hello", map[string][]byte{
		"amd64": append([]byte{
			0xb8, 1, 0, 0, 0, // mov eax, SYS_write
			0xbf, 1, 0, 0, 0, // mov edi, 1
			0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea rsi, [rip+16]: behind the code
			0xba, 6, 0, 0, 0, // mov edx, 6
			0x0f, 0x05, // syscall
			0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
			0x31, 0xff, // xor edi, edi
			0x0f, 0x05, // syscall
		}, text...),
		"386": append([]byte{
			0xb8, 4, 0, 0, 0, // mov eax, SYS_write
			0xbb, 1, 0, 0, 0, // mov ebx, 1
			// mov ecx: behind the headers and the code
			0xb9, 31 + 84, 0, 0x40, 0,
			0xba, 6, 0, 0, 0, // mov edx, 6
			0xcd, 0x80, // int 0x80
			0xb8, 1, 0, 0, 0, // mov eax, SYS_exit
			0x31, 0xdb, // xor ebx, ebx
			0xcd, 0x80, // int 0x80
		}, text...),
		"arm64": append([]byte{
			0x08, 0x08, 0x80, 0xd2, // mov x8, SYS_write
			0x20, 0x00, 0x80, 0xd2, // mov x0, 1
			0xc1, 0x00, 0x00, 0x10, // adr x1, .+24: behind the code
			0xc2, 0x00, 0x80, 0xd2, // mov x2, 6
			0x01, 0x00, 0x00, 0xd4, // svc 0
			0xa8, 0x0b, 0x80, 0xd2, // mov x8, SYS_exit
			0x00, 0x00, 0x80, 0xd2, // mov x0, 0
			0x01, 0x00, 0x00, 0xd4, // svc 0
		}, text...),
		"riscv64": append([]byte{
			0x93, 0x08, 0x00, 0x04, // li a7, SYS_write
			0x13, 0x05, 0x10, 0x00, // li a0, 1
			0x97, 0x05, 0x00, 0x00, // auipc a1, 0
			0x93, 0x85, 0xc5, 0x01, // addi a1, a1, 28: behind the code
			0x13, 0x06, 0x60, 0x00, // li a2, 6
			0x73, 0x00, 0x00, 0x00, // ecall
			0x93, 0x08, 0xd0, 0x05, // li a7, SYS_exit
			0x13, 0x05, 0x00, 0x00, // li a0, 0
			0x73, 0x00, 0x00, 0x00, // ecall
		}, text...),
	})
}

// WaitingProgram writes a static program that reads one byte and exits, and
// returns its path. Thousands of it take little memory.
func WaitingProgram(t testing.TB) string {
	return WriteProgram(t, "wait", map[string][]byte{
		"amd64": {
			0x31, 0xc0, // xor eax, eax: SYS_read
			0x31, 0xff, // xor edi, edi
			0x48, 0x89, 0xe6, // mov rsi, rsp
			0xba, 1, 0, 0, 0, // mov edx, 1
			0x0f, 0x05, // syscall
			0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
			0x31, 0xff, // xor edi, edi
			0x0f, 0x05, // syscall
		},
		"386": {
			0xb8, 3, 0, 0, 0, // mov eax, SYS_read
			0x31, 0xdb, // xor ebx, ebx
			0x89, 0xe1, // mov ecx, esp
			0xba, 1, 0, 0, 0, // mov edx, 1
			0xcd, 0x80, // int 0x80
			0xb8, 1, 0, 0, 0, // mov eax, SYS_exit
			0x31, 0xdb, // xor ebx, ebx
			0xcd, 0x80, // int 0x80
		},
		"arm64": {
			0xe8, 0x07, 0x80, 0xd2, // mov x8, SYS_read
			0x00, 0x00, 0x80, 0xd2, // mov x0, 0
			0xe1, 0x03, 0x00, 0x91, // mov x1, sp
			0x22, 0x00, 0x80, 0xd2, // mov x2, 1
			0x01, 0x00, 0x00, 0xd4, // svc 0
			0xa8, 0x0b, 0x80, 0xd2, // mov x8, SYS_exit
			0x00, 0x00, 0x80, 0xd2, // mov x0, 0
			0x01, 0x00, 0x00, 0xd4, // svc 0
		},
		"riscv64": {
			0x93, 0x08, 0xf0, 0x03, // li a7, SYS_read
			0x13, 0x05, 0x00, 0x00, // li a0, 0
			0x93, 0x05, 0x01, 0x00, // mv a1, sp
			0x13, 0x06, 0x10, 0x00, // li a2, 1
			0x73, 0x00, 0x00, 0x00, // ecall
			0x93, 0x08, 0xd0, 0x05, // li a7, SYS_exit
			0x13, 0x05, 0x00, 0x00, // li a0, 0
			0x73, 0x00, 0x00, 0x00, // ecall
		},
	})
}

// WriteProgram writes a static program that consists of this machine code, and
// returns its path.
func WriteProgram(t testing.TB, name string, codes map[string][]byte) string {
	code := codes[runtime.GOARCH]
	if code == nil {
		t.Skip("no machine code for " + runtime.GOARCH)
	}
	machine := map[string]uint16{"amd64": 62, "386": 3, "arm64": 183, "riscv64": 243}[runtime.GOARCH]

	const base = 0x400000
	class, elf, header := byte(2), 64, 56 // of these sizes in bytes
	// word is a field as wide as an address.
	word := func(v uint64) any { return v }
	if strconv.IntSize == 32 {
		class, elf, header = 1, 52, 32
		word = func(v uint64) any { return uint32(v) }
	}
	headers := uint64(elf + header)
	size := word(headers + uint64(len(code)))
	fields := []any{
		// ELF header: type EXEC, machine, version, entry, program headers,
		// section headers, flags, sizes and counts.
		uint16(2), machine, uint32(1), word(base + headers), word(uint64(elf)), word(0), uint32(0),
		uint16(elf), uint16(header), uint16(1), uint16(0), uint16(0), uint16(0),
	}
	// Program header: LOAD, readable and executable, all of the file.
	const load, flags = uint32(1), uint32(5)
	if class == 2 {
		fields = append(fields, load, flags, word(0), word(base), word(base), size, size, word(0x1000))
	} else {
		fields = append(fields, load, word(0), word(base), word(base), size, size, flags, word(0x1000))
	}
	var b bytes.Buffer
	b.Write([]byte{0x7f, 'E', 'L', 'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for _, field := range fields {
		require.NoError(t, binary.Write(&b, binary.LittleEndian, field))
	}
	b.Write(code)
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o755))
	return path
}
