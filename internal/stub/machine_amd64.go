//go:build linux

package stub

// machine is the processor, in an ELF file. (EM_X86_64)
const machine = 62
