//go:build linux

package program

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// printed is a call and how it prints.
type printed struct {
	want string
	nr   uintptr
	args func(p *Program) []uintptr
}

// list is for calls whose arguments need no memory.
func list(args ...uintptr) func(*Program) []uintptr {
	return func(*Program) []uintptr { return args }
}

// argument returns n as the kernel gets it.
func argument(n int) uintptr { return uintptr(n) }

var printings = []printed{
	{`capset({version=_LINUX_CAPABILITY_VERSION_3, pid=0}, {effective=0, permitted=CAP_CHOWN|CAP_CHECKPOINT_RESTORE, inheritable=41})`,
		unix.SYS_CAPSET, func(p *Program) []uintptr {
			return []uintptr{p.Uint32s([]uint32{unix.LINUX_CAPABILITY_VERSION_3, 0}), p.Uint32s([]uint32{0, 1, 0, 0, 1 << 8, 1 << 9})}
		}},
	{`chdir("/tmp")`, unix.SYS_CHDIR, func(p *Program) []uintptr { return []uintptr{p.CString("/tmp")} }},
	{`chdir(NULL)`, unix.SYS_CHDIR, list(0)},
	{`chroot("/srv")`, unix.SYS_CHROOT, func(p *Program) []uintptr { return []uintptr{p.CString("/srv")} }},
	{`ioctl(5, TIOCSCTTY, 0)`, unix.SYS_IOCTL, list(5, unix.TIOCSCTTY, 0)},
	{`ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6))`, unix.SYS_IOPRIO_SET, list(1, 0, 2<<13|6)},
	{`keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)`, unix.SYS_KEYCTL, list(unix.KEYCTL_JOIN_SESSION_KEYRING, 0)},
	{`landlock_restrict_self(4, 0)`, unix.SYS_LANDLOCK_RESTRICT_SELF, list(4, 0)},
	{`personality(PER_LINUX)`, unix.SYS_PERSONALITY, list(0)},
	{`personality(PER_LINUX32|ADDR_NO_RANDOMIZE|0x100)`, unix.SYS_PERSONALITY, list(0x40108)},
	{`ppoll([{fd=7, events=POLLIN}], 1, {tv_sec=0, tv_nsec=5}, NULL, 8)`, unix.SYS_PPOLL, func(p *Program) []uintptr {
		return []uintptr{p.Uint32s([]uint32{7, unix.POLLIN}), 1, p.Words(0, 5), 0, 8}
	}},
	{`prctl(PR_SCHED_CORE, PR_SCHED_CORE_SHARE_FROM, 12, PR_SCHED_CORE_SCOPE_THREAD, NULL)`, unix.SYS_PRCTL,
		list(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_SHARE_FROM, 12, unix.PR_SCHED_CORE_SCOPE_THREAD, 0)},
	{`prctl(PR_SET_CHILD_SUBREAPER, 1)`, unix.SYS_PRCTL, list(unix.PR_SET_CHILD_SUBREAPER, 1)},
	{`prctl(PR_SET_PDEATHSIG, SIGTERM)`, unix.SYS_PRCTL, list(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM))},
	{`prctl(PR_SET_TIMERSLACK, 1000)`, unix.SYS_PRCTL, list(unix.PR_SET_TIMERSLACK, 1000)},
	{`sched_setaffinity(0, 16, [0 3 64])`, unix.SYS_SCHED_SETAFFINITY, func(p *Program) []uintptr { return []uintptr{0, 16, p.Words(9, 1)} }},
	{`sched_setattr(0, {size=48, sched_policy=SCHED_DEADLINE, sched_flags=SCHED_FLAG_RESET_ON_FORK, sched_nice=0, sched_priority=0, ` +
		`sched_runtime=10, sched_deadline=20, sched_period=30}, 0)`, unix.SYS_SCHED_SETATTR, func(p *Program) []uintptr {
		return []uintptr{0, p.Uint32s([]uint32{48, 6, 1, 0, 0, 0, 10, 0, 20, 0, 30, 0}), 0}
	}},
	{`sched_setscheduler(0, SCHED_FIFO|SCHED_RESET_ON_FORK, [5])`, unix.SYS_SCHED_SETSCHEDULER, func(p *Program) []uintptr {
		return []uintptr{0, 1 | 0x40000000, p.Uint32s([]uint32{5})}
	}},
	{`set_mempolicy(MPOL_BIND, [0x3], 65)`, unix.SYS_SET_MEMPOLICY, func(p *Program) []uintptr { return []uintptr{2, p.Words(3), 65} }},
	{`set_mempolicy(MPOL_LOCAL, NULL, 0)`, unix.SYS_SET_MEMPOLICY, list(4, 0, 0)},
	{`setpriority(PRIO_PROCESS, 0, -5)`, unix.SYS_SETPRIORITY, list(0, 0, argument(-5))},
	{`clone(CLONE_VM|CLONE_PARENT_SETTID)`, unix.SYS_CLONE, list(unix.CLONE_VM|unix.CLONE_PARENT_SETTID, 0, 1)},
	{`clone3({flags=CLONE_PARENT_SETTID|CLONE_NEWTIME}, 64)`, unix.SYS_CLONE3, func(p *Program) []uintptr {
		return []uintptr{p.Words(unix.CLONE_PARENT_SETTID|unix.CLONE_NEWTIME, 0, 0, 1, 0, 0, 0, 0), 64}
	}},
	{`close(7)`, unix.SYS_CLOSE, list(7)},
	{`close(-1)`, unix.SYS_CLOSE, list(argument(-1))},
	// The kernel looks at an int only.
	{`close(-1)`, unix.SYS_CLOSE, list(1<<32 - 1)},
	{`close_range(3, ~0U, CLOSE_RANGE_UNSHARE)`, unix.SYS_CLOSE_RANGE, list(3, 1<<32-1, unix.CLOSE_RANGE_UNSHARE)},
	{`close_range(3, 9, 0)`, unix.SYS_CLOSE_RANGE, list(3, 9, 0)},
	{`close_range(3, 9, CLOSE_RANGE_UNSHARE|CLOSE_RANGE_CLOEXEC|0x80)`, unix.SYS_CLOSE_RANGE, list(3, 9, 0x86)},
	{`dup3(3, 4, 0)`, unix.SYS_DUP3, list(3, 4, 0)},
	{`dup3(3, 4, O_CLOEXEC)`, unix.SYS_DUP3, list(3, 4, unix.O_CLOEXEC)},
	{`execve("/bin/echo", ["echo", "", "a \"b\"\n"], ["A=1", "B="])`, unix.SYS_EXECVE, func(p *Program) []uintptr {
		return []uintptr{p.CString("/bin/echo"), stringArray(p, "echo", "", "a \"b\"\n"), stringArray(p, "A=1", "B=")}
	}},
	{`execve("/bin/echo", [], NULL)`, unix.SYS_EXECVE, func(p *Program) []uintptr {
		return []uintptr{p.CString("/bin/echo"), stringArray(p), 0}
	}},
	{`fcntl(3, F_SETFD, 0)`, SysFcntl, list(3, unix.F_SETFD, 0)},
	{`fcntl(3, F_SETFD, FD_CLOEXEC)`, SysFcntl, list(3, unix.F_SETFD, unix.FD_CLOEXEC)},
	{`fcntl(3, F_GETFD, 0)`, SysFcntl, list(3, unix.F_GETFD, 0)},
	{`fcntl(3, F_SETFL, 0x800)`, SysFcntl, list(3, unix.F_SETFL, 0x800)},
	{`fcntl(3, 99, 0x1)`, SysFcntl, list(3, 99, 1)},
	{`fcntl(3, F_SETLK, {l_type=F_WRLCK, l_whence=SEEK_SET, l_start=0, l_len=0})`, SysFcntl, func(p *Program) []uintptr {
		lock := p.Alloc(32)
		binary.NativeEndian.PutUint16(p.Bytes(lock, 2), unix.F_WRLCK)
		return []uintptr{3, unix.F_SETLK, lock}
	}},
	{`fcntl(3, F_SETLK, 0)`, SysFcntl, list(3, unix.F_SETLK, 0)},
	{`renameat2(AT_FDCWD, "/run/a", AT_FDCWD, "/run/b", RENAME_NOREPLACE)`, unix.SYS_RENAMEAT2, func(p *Program) []uintptr {
		return []uintptr{argument(unix.AT_FDCWD), p.CString("/run/a"), argument(unix.AT_FDCWD), p.CString("/run/b"), unix.RENAME_NOREPLACE}
	}},
	{`execveat(5, "", ["spawn-helper", "6"], ["A=***"], AT_EMPTY_PATH)`, unix.SYS_EXECVEAT, func(p *Program) []uintptr {
		argv, envp := p.Pointers(2), p.Pointers(1)
		p.SetPointer(argv, 0, p.CString("spawn-helper"))
		p.SetPointer(argv, 1, p.CString("6"))
		env := p.CString("A=hidden")
		p.Hide(env, 2)
		p.SetPointer(envp, 0, env)
		return []uintptr{5, p.CString(""), argv, envp, unix.AT_EMPTY_PATH}
	}},
	{`hook("a name", "an argument")`, HookNr, func(p *Program) []uintptr {
		return []uintptr{p.CString("a name"), p.CString("an argument")}
	}},
	{`getppid()`, unix.SYS_GETPPID, list()},
	{`madvise(0x1000, 4096, MADV_DONTFORK)`, unix.SYS_MADVISE, list(0x1000, 4096, unix.MADV_DONTFORK)},
	{`madvise(0x1000, 4096, 3)`, unix.SYS_MADVISE, list(0x1000, 4096, 3)},
	{`mmap(0x1000, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED|MAP_POPULATE, 5, 0)`, SysMmap,
		list(0x1000, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED|unix.MAP_POPULATE, 5, 0)},
	{`mount(NULL, "/", NULL, MS_REC|MS_SLAVE, NULL)`, unix.SYS_MOUNT, func(p *Program) []uintptr {
		return []uintptr{0, p.CString("/"), 0, unix.MS_REC | unix.MS_SLAVE, 0}
	}},
	{`openat(AT_FDCWD, "/dev/null", O_RDWR)`, unix.SYS_OPENAT, func(p *Program) []uintptr {
		return []uintptr{argument(unix.AT_FDCWD), p.CString("/dev/null"), unix.O_RDWR}
	}},
	{`openat(5, "x", O_RDONLY)`, unix.SYS_OPENAT, func(p *Program) []uintptr { return []uintptr{5, p.CString("x"), unix.O_RDONLY} }},
	{`openat(5, "x", O_WRONLY|O_CLOEXEC|O_CREAT|O_NOCTTY|O_NONBLOCK|O_TRUNC)`, unix.SYS_OPENAT, func(p *Program) []uintptr {
		return []uintptr{5, p.CString("x"), unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY}
	}},
	{`openat(5, "x", O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_PATH|0x40000000)`, unix.SYS_OPENAT, func(p *Program) []uintptr {
		return []uintptr{5, p.CString("x"), unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_PATH | 0x40000000}
	}},
	{`prlimit64(0, RLIMIT_NOFILE, {soft=1024, hard=RLIM_INFINITY}, NULL)`, unix.SYS_PRLIMIT64, func(p *Program) []uintptr {
		return []uintptr{0, unix.RLIMIT_NOFILE, p.Words(1024, unix.RLIM_INFINITY), 0}
	}},
	{`prctl(PR_CAPBSET_DROP, CAP_BPF)`, unix.SYS_PRCTL, list(unix.PR_CAPBSET_DROP, unix.CAP_BPF)},
	{`prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)`, unix.SYS_PRCTL, list(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)},
	{`prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL)`, unix.SYS_PRCTL, list(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_KILL)},
	{`prctl(PR_SET_SECUREBITS, SECBIT_NOROOT|SECBIT_KEEP_CAPS)`, unix.SYS_PRCTL, list(unix.PR_SET_SECUREBITS, 0x11)},
	{`prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)`, unix.SYS_PRCTL, list(unix.PR_SET_MDWE, 1)},
	{`prctl(PR_SET_THP_DISABLE, 1)`, unix.SYS_PRCTL, list(unix.PR_SET_THP_DISABLE, 1)},
	{`prctl(PR_SET_DUMPABLE, 0)`, unix.SYS_PRCTL, list(unix.PR_SET_DUMPABLE, 0)},
	{`prctl(PR_SET_NO_NEW_PRIVS, 1)`, unix.SYS_PRCTL, list(unix.PR_SET_NO_NEW_PRIVS, 1)},
	{`prctl(9999, 0x1, 0, 0, 0)`, unix.SYS_PRCTL, list(9999, 1, 0, 0, 0)},
	{`prlimit64(0, 16, NULL, 0x8)`, unix.SYS_PRLIMIT64, list(0, 16, 0, 8)},
	{`read(0, NULL, 1)`, unix.SYS_READ, list(0, 0, 1)},
	{`read(0, 0x10, 1)`, unix.SYS_READ, list(0, 16, 1)},
	{`rt_sigaction(SIGPIPE, {sa_handler=SIG_DFL}, NULL, 8)`, unix.SYS_RT_SIGACTION, func(p *Program) []uintptr {
		return []uintptr{uintptr(unix.SIGPIPE), p.Words(0, 0, 0, 0), 0, 8}
	}},
	{`rt_sigaction(SIGRTMIN, {sa_handler=SIG_IGN}, NULL, 8)`, unix.SYS_RT_SIGACTION, func(p *Program) []uintptr {
		return []uintptr{32, p.Words(1, 0, 0, 0), 0, 8}
	}},
	{`rt_sigaction(SIGRT_32, {sa_handler=die}, NULL, 8)`, unix.SYS_RT_SIGACTION, func(p *Program) []uintptr {
		return []uintptr{64, p.Words(0xabc, 0, 0, 0), 0, 8}
	}},
	{`rt_sigaction(65, NULL, NULL, 8)`, unix.SYS_RT_SIGACTION, list(65, 0, 0, 8)},
	{`rt_sigprocmask(SIG_SETMASK, [], NULL, 8)`, unix.SYS_RT_SIGPROCMASK, func(p *Program) []uintptr {
		return []uintptr{unix.SIG_SETMASK, p.Words(0), 0, 8}
	}},
	{`rt_sigprocmask(SIG_BLOCK, [HUP CHLD RTMIN RT_1], NULL, 8)`, unix.SYS_RT_SIGPROCMASK, func(p *Program) []uintptr {
		return []uintptr{unix.SIG_BLOCK, p.Words(1<<0 | 1<<16 | 1<<31 | 1<<32), 0, 8}
	}},
	{`rt_sigprocmask(SIG_UNBLOCK, ~[], NULL, 8)`, unix.SYS_RT_SIGPROCMASK, func(p *Program) []uintptr {
		return []uintptr{unix.SIG_UNBLOCK, p.Words(1<<64 - 1), 0, 8}
	}},
	{`rt_sigprocmask(7, NULL, NULL, 8)`, unix.SYS_RT_SIGPROCMASK, list(7, 0, 0, 8)},
	{`seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=3, filter=0x40})`, unix.SYS_SECCOMP, func(p *Program) []uintptr {
		fprog := p.Pointers(1)
		p.Bytes(fprog, 1)[0] = 3
		p.SetPointer(fprog, 1, 0x40)
		return []uintptr{unix.SECCOMP_SET_MODE_FILTER, 0, fprog}
	}},
	{`setgroups(0, [])`, SysSetgroups, list(0, 0)},
	{`setgroups(3, [1, 20, 4294967294])`, SysSetgroups, func(p *Program) []uintptr {
		return []uintptr{3, p.Uint32s([]uint32{1, 20, 1<<32 - 2})}
	}},
	{`setns(5, CLONE_NEWNET)`, unix.SYS_SETNS, list(5, unix.CLONE_NEWNET)},
	{`setpgid(0, 0)`, unix.SYS_SETPGID, list(0, 0)},
	{`setresgid(5, -1, 4294967294)`, SysSetresgid, list(5, argument(-1), 1<<32-2)},
	{`setresuid(0, -1, 65534)`, SysSetresuid, list(0, 1<<32-1, 65534)},
	{`setsid()`, unix.SYS_SETSID, list()},
	{`umask(027)`, unix.SYS_UMASK, list(0o27)},
	{`umask(0)`, unix.SYS_UMASK, list(0)},
	{`unshare(CLONE_FS)`, unix.SYS_UNSHARE, list(unix.CLONE_FS)},
	{`unshare(CLONE_VM|CLONE_FILES|CLONE_NEWUSER|0x2)`, unix.SYS_UNSHARE, list(unix.CLONE_VM | unix.CLONE_FILES | unix.CLONE_NEWUSER | 2)},
	{`clone3({flags=CLONE_CLEAR_SIGHAND|CLONE_INTO_CGROUP}, 88)`, unix.SYS_CLONE3, func(p *Program) []uintptr {
		return []uintptr{p.Words(unix.CLONE_CLEAR_SIGHAND|unix.CLONE_INTO_CGROUP, 0), 88}
	}},
	{`write(4, "go\0", 3)`, unix.SYS_WRITE, func(p *Program) []uintptr { return []uintptr{4, p.CString("go\x00"), 3} }},
	{`syscall_9999(0x1, 0x2, 0, 0, 0, 0xff)`, 9999, list(1, 2, 0, 0, 0, 255)},
}

// stringArray returns the address of a NULL-terminated array of strings.
func stringArray(p *Program, s ...string) uintptr {
	a := p.Pointers(len(s))
	for i := range s {
		p.SetPointer(a, i, p.CString(s[i]))
	}
	return a
}

func TestEveryCallPrintsAsStraceWould(t *testing.T) {
	covered := map[uintptr]bool{}
	for _, c := range printings {
		p := newProgram(t)
		p.Add(c.nr, c.args(p)...)
		require.Equal(t, c.want, p.Op(0))
		covered[c.nr] = true
	}
	for nr, c := range calls {
		require.True(t, covered[nr], "the printing of %s is tested", c.name)
	}
}

func TestEveryResourceAndSignalHasItsName(t *testing.T) {
	require.Len(t, resources, 16)
	for nr, name := range resources {
		p := newProgram(t)
		p.Add(unix.SYS_PRLIMIT64, 0, nr, p.Words(0, 0), 0)
		require.Equal(t, "prlimit64(0, "+name+", {soft=0, hard=0}, NULL)", p.Op(0))
	}
	for n, want := range map[int]string{
		1: "SIGHUP", 9: "SIGKILL", 31: "SIGSYS", 32: "SIGRTMIN", 33: "SIGRT_1", 64: "SIGRT_32", 0: "0", 65: "65", -1: "-1",
	} {
		require.Equal(t, want, SignalName(n))
	}
	names := map[string]bool{}
	for n := 1; n <= 64; n++ {
		require.True(t, strings.HasPrefix(SignalName(n), "SIG"), "signal %d", n)
		names[SignalName(n)] = true
	}
	require.Len(t, names, 64)
}

func TestEveryCloneFlagHasItsName(t *testing.T) {
	require.Equal(t, "CLONE_VM|CLONE_FILES|CLONE_PIDFD|CLONE_CHILD_CLEARTID|CLONE_CLEAR_SIGHAND",
		CloneFlags(unix.CLONE_VM|unix.CLONE_FILES|unix.CLONE_PIDFD|unix.CLONE_CHILD_CLEARTID|unix.CLONE_CLEAR_SIGHAND))
	require.Equal(t, "CLONE_FS|CLONE_VFORK|0x8000000000000000", CloneFlags(unix.CLONE_FS|unix.CLONE_VFORK|1<<63))
	require.Equal(t, "0", CloneFlags(0))
}

func TestAProgramPrintsOneCallALine(t *testing.T) {
	p := newProgram(t)
	p.Add(unix.SYS_SETSID)
	p.Add(unix.SYS_UMASK, 0o22)
	require.Equal(t, "setsid()\numask(022)\n", p.String())
}

func TestSecretsPrintAsStars(t *testing.T) {
	p := newProgram(t)
	arg, value := p.CString("hush"), p.CString("TOKEN", "=", "hush")
	p.Hide(arg, 0)
	p.Hide(value, len("TOKEN="))
	argv, envp := p.Pointers(2), p.Pointers(2)
	p.SetPointer(argv, 0, p.CString("prog"))
	p.SetPointer(argv, 1, arg)
	p.SetPointer(envp, 0, value)
	p.SetPointer(envp, 1, p.CString("TOKEN=shown"))
	p.Add(unix.SYS_EXECVE, p.CString("/prog"), argv, envp)
	p.Layout()
	require.Equal(t, `execve("/prog", ["prog", "***"], ["TOKEN=***", "TOKEN=shown"])`, p.Op(0))
	require.NotContains(t, p.String(), "hush")
}

func TestStepNamesExecveByItsPathAlone(t *testing.T) {
	p := newProgram(t)
	p.Add(unix.SYS_UMASK, 0o22)
	p.Add(unix.SYS_EXECVE, p.CString("/prog"), stringArray(p, "prog", strings.Repeat("x", 1000)), stringArray(p))
	require.Equal(t, "umask(022)", p.Step(0))
	require.Equal(t, `execve("/prog")`, p.Step(1))
}

func TestTheExpectedResultIsPrinted(t *testing.T) {
	p := newProgram(t)
	p.Expect(p.Add(unix.SYS_GETPPID), 42)
	require.Equal(t, "getppid() = 42", p.Op(0))
}

func TestALinkedArgumentPrintsAsTheResultItTakes(t *testing.T) {
	p := newProgram(t)
	from := p.Add(unix.SYS_DUP3, 3, 4, 0)
	p.Link(from, p.Add(unix.SYS_DUP3, 0, 5, 0), 0)
	require.Equal(t, "dup3(<result of call 1>, 5, 0)", p.Op(1))
}

func TestALinkedFilePrintsWithItsPath(t *testing.T) {
	p := newProgram(t)
	from := p.Add(unix.SYS_OPENAT, argument(unix.AT_FDCWD), p.CString("x"), unix.O_WRONLY)
	p.Link(from, p.Add(unix.SYS_WRITE, 0, p.CString("ab"), 2), 0)
	require.Equal(t, `write(<x>, "ab", 2)`, p.Op(1))
}

func TestQuoteEscapesAsStraceDoes(t *testing.T) {
	for s, want := range map[string]string{
		"":                 `""`,
		"plain text ~!":    `"plain text ~!"`,
		"a\"b\\c":          `"a\"b\\c"`,
		"\n\t\r":           `"\n\t\r"`,
		"\x00":             `"\0"`,
		"\x01x":            `"\1x"`,
		"\x012":            `"\0012"`, // or else it would be \12, a line feed
		"\x018":            `"\18"`,   // 8 is no octal digit
		"\x1b[0m":          `"\33[0m"`,
		"\x7f\xff":         `"\177\377"`,
		"\xff7":            `"\3777"`,
		"é":                `"\303\251"`,
		"a" + "\x00" + "0": `"a\0000"`,
	} {
		require.Equal(t, want, quote(s))
	}
}

// FuzzQuote checks that what is quoted can be told from everything else: it is
// one line of printable ASCII, and C's rules for string literals turn it back
// into what it was.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{
		"", "plain", "\x00", "\x000", "\x0012", "\x018", `\`, `\\n`, `"`, "\n\r\t\v", "\xff\xfe7", "日本", "***",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := quote(s)
		for i := range len(q) {
			require.True(t, q[i] >= ' ' && q[i] < 0x7f, "%q is printable", q)
		}
		back, ok := unquote(q)
		require.True(t, ok, "%s is one literal", q)
		require.Equal(t, s, back)
	})
}

// unquote reads a literal as C does, with the escapes that strace uses. It
// reports whether q is one.
func unquote(q string) (string, bool) {
	if len(q) < 2 || q[0] != '"' || q[len(q)-1] != '"' {
		return "", false
	}
	in := q[1 : len(q)-1]
	var out []byte
	for len(in) > 0 {
		c := in[0]
		in = in[1:]
		if c == '"' {
			return "", false
		}
		if c != '\\' {
			out = append(out, c)
			continue
		}
		if in == "" {
			return "", false
		}
		octal := 0
		for octal < 3 && octal < len(in) && in[octal] >= '0' && in[octal] <= '7' {
			octal++
		}
		if octal > 0 {
			n, err := strconv.ParseUint(in[:octal], 8, 8)
			if err != nil {
				return "", false
			}
			out, in = append(out, byte(n)), in[octal:]
			continue
		}
		plain, ok := map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', '"': '"', '\\': '\\'}[in[0]]
		if !ok {
			return "", false
		}
		out, in = append(out, plain), in[1:]
	}
	return string(out), true
}
