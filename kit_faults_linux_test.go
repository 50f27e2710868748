package spawn

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// requireNotStarted checks that nothing was started because of this step and this error.
func requireNotStarted(t testing.TB, err error, op string, is error) *StartError {
	t.Helper()
	var start *StartError
	require.ErrorAs(t, err, &start)
	require.Equal(t, op, start.Op)
	require.ErrorIs(t, err, is)
	requireNoChild(t)
	return start
}

// openNumbers returns this process's descriptors, without opening one.
func openNumbers() (open []int) {
	for fd := range 1024 {
		if isOpen(fd) {
			open = append(open, fd)
		}
	}
	return open
}

// leftBehind looks for what a start that failed may have left.
func leftBehind(open []int, warm bool) error {
	now := openNumbers()
	if warm && !slices.Equal(now, open) || len(now) > len(open)+2 { // Go's poller has two
		return fmt.Errorf("open descriptors: %v, before: %v", now, open)
	}
	if n := program.InUse(); n != 0 {
		return fmt.Errorf("%d programs in use", n)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil); err != unix.ECHILD {
		return fmt.Errorf("a child is left: %w", err)
	}
	return nil
}

// needClone skips a test that is about the child which this process clones, where only helpers can run programs.
func needClone(t testing.TB) {
	t.Helper()
	if !canClone() {
		t.Skip("needs a child that is cloned directly, which there is none of on " + runtime.GOARCH)
	}
}

// fail ends a helper.
func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// deny makes a system call of this process fail, on every thread. (seccomp(2))
func deny(nr, errno uint64) error { return denyFlags(nr, 0, errno) }

// denyFlags is deny for a call whose first argument has one of these flags, or any call without flags.
func denyFlags(nr, flags, errno uint64) error {
	const (
		load, jumpIfEqual, jumpIfSet, ret = 0x20, 0x15, 0x45, 0x06 // BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JSET|BPF_K, BPF_RET|BPF_K
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
