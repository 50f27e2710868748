//go:build linux && !(amd64 || arm64)

package stub

import "golang.org/x/sys/unix"

// Data is the address of the data.
const Data = 0

// Name is the name of the memfd, and argument 0 of the stub.
const Name = "spawn-stub"

// New needs a child's assembly, which exists for amd64 and arm64.
func New() (fd int, err error) { return -1, unix.ENOSYS }

// Write is not called: there is nothing to write to.
func Write(int, []byte, func(b []byte) []byte) error { return unix.ENOSYS }
