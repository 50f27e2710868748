//go:build linux

package testkit

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// nativeArch is how a filter sees the calls of this architecture.
var nativeArch = map[string]uint32{
	"386":     unix.AUDIT_ARCH_I386,
	"amd64":   unix.AUDIT_ARCH_X86_64,
	"arm":     unix.AUDIT_ARCH_ARM,
	"arm64":   unix.AUDIT_ARCH_AARCH64,
	"riscv64": unix.AUDIT_ARCH_RISCV64,
}[runtime.GOARCH]

// OnlyNative starts a filter that is about the numbers that calls have on this
// architecture. Programs of another one, as those of a 64-bit system are for
// a 32-bit test, may make any call.
func OnlyNative() []unix.SockFilter {
	const offset = 4
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nativeArch, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
}

// FilterOf returns a filter of n instructions that answers the system call nr
// with action, and allows the rest.
func FilterOf(nr, action uint32, n int) []unix.SockFilter {
	const loadWord, jumpEqual, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	f := OnlyNative()
	for len(f) < n-4 {
		f = append(f, unix.SockFilter{Code: loadWord})
	}
	return append(f, unix.SockFilter{Code: loadWord},
		unix.SockFilter{Code: jumpEqual, K: nr, Jf: 1},
		unix.SockFilter{Code: ret, K: action},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

// Deny makes a system call of this process fail, on every thread. (seccomp(2))
func Deny(nr, errno uint64) error { return DenyFlags(nr, 0, errno) }

// DenyFlags is Deny for a call whose first argument has one of these flags, or
// any call without flags.
func DenyFlags(nr, flags, errno uint64) error {
	const (
		// BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JSET|BPF_K,
		// BPF_RET|BPF_K
		load, jumpIfEqual, jumpIfSet, ret = 0x20, 0x15, 0x45, 0x06
		retErrno, retAllow                = 0x0005_0000, 0x7fff_0000
		setModeFilter, tsync              = 1, 1
		architecture, firstArgument       = 4, 16
	)
	// struct sock_filter: code, jt, jf and k, of 16, 8, 8 and 32 bits.
	instruction := func(code, jf, k uint64) uint64 { return code | jf<<24 | k<<32 }
	memory, err := program.New(1024)
	if err != nil {
		return err
	}
	defer memory.Free()
	filter := []uint64{
		instruction(load, 0, 0), // the number of the system call
		instruction(jumpIfEqual, 1, nr),
		instruction(ret, 0, retErrno|errno),
		instruction(ret, 0, retAllow),
	}
	if flags != 0 {
		filter = []uint64{
			instruction(load, 0, 0),
			instruction(jumpIfEqual, 3, nr),
			instruction(load, 0, firstArgument),
			instruction(jumpIfSet, 1, flags),
			instruction(ret, 0, retErrno|errno),
			instruction(ret, 0, retAllow),
		}
	}
	filter = append([]uint64{
		instruction(load, 0, architecture),
		instruction(jumpIfEqual, 0, uint64(nativeArch)) | 1<<16, // jt
		instruction(ret, 0, retAllow),
	}, filter...)
	fprog := memory.Pointers(1)
	binary.NativeEndian.PutUint16(memory.Bytes(fprog, 2), uint16(len(filter)))
	memory.SetPointer(fprog, 1, memory.Words(filter...))

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, setModeFilter, tsync, fprog); errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}

// NotifyOf makes system calls of this thread, and of the processes that
// it clones, wait for an answer through the descriptor that it returns.
// (seccomp_unotify(2))
//
// Preconditions: the goroutine is locked to its thread.
func NotifyOf(nrs ...uint32) (int, error) {
	// the number
	code := append(OnlyNative(), unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0})
	for i, nr := range nrs {
		code = append(code, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: uint8(len(nrs) - i)})
	}
	code = append(code, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("no_new_privs: %w", err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return -1, fmt.Errorf("seccomp: %w", errno)
	}
	return int(fd), nil
}

// notification is the kernel's struct seccomp_notif.
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	call  uint32
	rest  [60]byte
}

// receive waits for a call that a filter of NotifyOf holds.
//
// Preconditions: listener is of such a filter.
func receive(listener int) (n notification, err error) {
	if err := seccompIoctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err != nil {
		return n, fmt.Errorf("receive: %w", err)
	}
	return n, nil
}

// goOn lets a call that is held go on.
//
// Preconditions: n was received from the listener.
func goOn(listener int, n *notification) error {
	response := struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if err := seccompIoctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&response)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// Answer waits for a call that a filter of NotifyOf holds, and lets it go on
// after look has returned. It tells look the process.
func Answer(listener int, look func(pid int)) error {
	n, err := receive(listener)
	if err != nil {
		return err
	}
	look(int(n.pid))
	return goOn(listener, &n)
}

// seccompIoctl makes a call about a notification, and once more when a signal
// interrupts it.
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
