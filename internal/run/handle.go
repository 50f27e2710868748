//go:build linux

package run

import (
	"os"
	"syscall"

	"github.com/virspawn/spawn/internal/descriptor"
	"golang.org/x/sys/unix"
)

// handle is a pidfd, and the file by which Go's poller knows it, where one
// was needed.
type handle struct {
	fd   int
	file *os.File
}

// signal sends a signal to the process.
func (h *handle) signal(sig syscall.Signal) error {
	err := unix.PidfdSendSignal(h.fd, sig, nil, 0)
	if err == unix.ESRCH {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

func (h *handle) close() {
	if h.file != nil {
		h.file.Close()
	} else {
		descriptor.Close(h.fd)
	}
	h.fd, h.file = -1, nil
}

// pollable returns the handle as a file for Go's poller.
func (h *handle) pollable() *os.File {
	if h.file == nil {
		descriptor.SetNonblock(h.fd)
		h.file = os.NewFile(uintptr(h.fd), "pidfd")
	}
	return h.file
}
