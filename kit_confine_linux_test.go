package spawn

import (
	"runtime"

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

// onlyNative starts a filter that is about the numbers that calls have on this architecture. Programs of another one, as those of a 64-bit
// system are for a 32-bit test, may make any call.
func onlyNative() []unix.SockFilter {
	const offset = 4
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nativeArch, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
}

// filterOf returns a filter of n instructions that answers the system call nr with action, and allows the rest.
func filterOf(nr, action uint32, n int) []unix.SockFilter {
	const loadWord, jumpEqual, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	f := onlyNative()
	for len(f) < n-4 {
		f = append(f, unix.SockFilter{Code: loadWord})
	}
	return append(f, unix.SockFilter{Code: loadWord},
		unix.SockFilter{Code: jumpEqual, K: nr, Jf: 1},
		unix.SockFilter{Code: ret, K: action},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}
