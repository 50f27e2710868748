//go:build linux

package stub

// machine is the processor, in an ELF file. (EM_AARCH64)
const machine = 183
