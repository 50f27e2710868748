package spawn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const nobody = 65534

// needs skips a test when err is one of those which say that this machine does not have what it needs. It fails with any other.
func needs(t testing.TB, what string, err error, missing ...error) {
	t.Helper()
	for _, m := range missing {
		if errors.Is(err, m) {
			t.Skipf("needs %s: %v", what, err)
		}
	}
	require.NoError(t, err)
}

func needRoot(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: " + why)
	}
}

// catStatus is a command whose program prints its own status.
func catStatus() *Command { return New("/bin/cat", "/proc/self/status") }

// status runs a command made by catStatus and returns what it prints, by field.
func statusOf(c *Command) (map[string]string, error) {
	out, err := c.Output(context.Background())
	return parseStatus(out), err
}

func parseStatus(b []byte) map[string]string {
	fields := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.Join(strings.Fields(value), " ")
		}
	}
	return fields
}

// otherIDs changes to other ids where this process can, or to its own; both count for the dumpable flag.
func otherIDs(c *Command) *Command {
	if os.Geteuid() == 0 {
		return c.SetUID(nobody).SetGID(nobody)
	}
	return c.SetUID(os.Getuid()).SetGID(os.Getgid())
}

// notifyOf makes a system call of this thread, and of the processes that it clones, wait for an answer through the
// descriptor that it returns. (seccomp_unotify(2))
//
// Preconditions: the goroutine is locked to its thread.
func notifyOf(nr uint32) (int, error) {
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
	}
	code = append(onlyNative(), code...)
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("no_new_privs: %w", err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return -1, fmt.Errorf("seccomp: %w", errno)
	}
	unix.CloseOnExec(int(fd))
	return int(fd), nil
}

// answer waits for a call that a filter of notifyOf holds, and lets it go on after look has returned. It tells look the process.
func answer(listener int, look func(pid int)) error {
	var notification struct {
		id   uint64
		pid  uint32
		rest [68]byte
	}
	if err := seccompIoctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&notification)); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	look(int(notification.pid))
	response := struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}{id: notification.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if err := seccompIoctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&response)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func seccompIoctl(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}
