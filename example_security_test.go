//go:build linux

package spawn_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/syndtr/gocapability/capability"
	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

// What needs privileges, or depends on the machine, is shown by what the child
// would do.

func ExampleCommand_ClearCaps() {
	printCalls(spawn.New("/bin/true").ClearCaps(), "capset")
	// Output: capset({version=_LINUX_CAPABILITY_VERSION_3, pid=0}, {effective=0, permitted=0, inheritable=0})
}

func ExampleCommand_AllowCap() {
	// A server for a low port that runs as an ordinary user.
	cmd := spawn.New("/bin/true").SetUID(4242).SetGID(4242).AllowCap(capability.CAP_NET_BIND_SERVICE)
	printCalls(cmd, "setresuid", "capset")
	// Output:
	// setresuid(4242, 4242, 4242)
	// capset({version=_LINUX_CAPABILITY_VERSION_3, pid=0}, {effective=CAP_NET_BIND_SERVICE, permitted=CAP_NET_BIND_SERVICE, inheritable=CAP_NET_BIND_SERVICE})
}

func ExampleCommand_SetBoundingCaps() {
	text, err := spawn.New("/bin/true").SetBoundingCaps(capability.CAP_CHOWN).Explain()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Contains(text, "CAP_CHOWN"), strings.Contains(text, "CAP_SYS_ADMIN"))
	// Output: false true
}

func ExampleCommand_SetAmbientCaps() {
	cmd := spawn.New("/bin/true").SetUID(4242).SetGID(4242).SetAmbientCaps(capability.CAP_NET_RAW)
	text, err := cmd.Explain()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Contains(text, "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW)\n"))
	// Output: true
}

func ExampleCommand_SetSecurebits() {
	const noRoot, locked = 1 << 0, 1 << 1 // SECBIT_NOROOT, SECBIT_NOROOT_LOCKED
	printCalls(spawn.New("/bin/true").SetSecurebits(noRoot|locked), "prctl(PR_SET_SECUREBITS")
	// Output: prctl(PR_SET_SECUREBITS, SECBIT_NOROOT|SECBIT_NOROOT_LOCKED)
}

func ExampleCommand_SetNoNewPrivs() {
	printOutput(spawn.New("grep", "NoNewPrivs", "/proc/self/status").SetNoNewPrivs())
	// Output: NoNewPrivs:	1
}

func ExampleCommand_SetSeccompFilter() {
	// Every mkdir(2) and mkdirat(2) is refused. See examples/seccomp for
	// a filter that is built from names.
	filter := []unix.SockFilter{
		// The number of the call.
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_MKDIRAT, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	}
	printOutput(spawn.New("grep", "^Seccomp:", "/proc/self/status").SetSeccompFilter(filter))
	// Output: Seccomp:	2
}

func ExampleCommand_SetLandlock() {
	cmd := spawn.New("cat", "/etc/passwd").SetLandlock(spawn.Landlock{
		Paths: []spawn.LandlockPath{
			{Path: "/bin", Rights: spawn.LandlockReadOnly},
			{Path: "/usr", Rights: spawn.LandlockReadOnly},
			{Path: "/tmp", Rights: spawn.LandlockReadWrite},
		},
		Version: 1,
	})
	err := cmd.Run(context.Background())
	if errors.Is(err, errors.ErrUnsupported) {
		return // a kernel without Landlock
	}
	fmt.Fprintln(os.Stderr, err) // cat: /etc/passwd: Permission denied
}

func ExampleCommand_SetSELinuxLabel() {
	cmd := spawn.New("/usr/bin/qemu-system-x86_64").SetSELinuxLabel("system_u:system_r:svirt_t:s0:c87,c520").SetUID(107).SetGID(107)
	if err := cmd.Run(context.Background()); errors.Is(err, errors.ErrUnsupported) {
		// ... the kernel does not run SELinux, but AppArmor
		fmt.Fprintln(os.Stderr, err)
	}
}

func ExampleCommand_SetAppArmorProfile() {
	cmd := spawn.New("/usr/sbin/ntpd").SetAppArmorProfile("ntpd").SetUID(4242).SetGID(4242)
	if err := cmd.Run(context.Background()); errors.Is(err, os.ErrNotExist) {
		fmt.Fprintln(os.Stderr, err) // ... the profile "ntpd" is not loaded
	}
}

func ExampleCommand_SetSmackLabel() {
	if err := spawn.New("/usr/bin/app").SetSmackLabel("User::App").Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func ExampleCommand_SetMACOptional() {
	// A label for each of the modules; the kernel runs one of them, or none.
	cmd := spawn.New("/usr/sbin/ntpd").SetMACOptional().SetSELinuxLabel("system_u:system_r:ntpd_t:s0").SetAppArmorProfile("ntpd")
	if err := cmd.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func ExampleCommand_SetNamespaces() {
	// Root inside, nobody special outside, without a network.
	cmd := spawn.New("sh", "-c", "id -u; ls /sys/class/net").
		SetNamespaces(spawn.UserNamespace, spawn.NetworkNamespace, spawn.PIDNamespace).
		SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Getuid(), Size: 1}).
		SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Getgid(), Size: 1})
	if err := cmd.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err) // where user namespaces are not allowed
	}
}

func ExampleCommand_SetUIDMap() {
	_, err := spawn.New("/bin/true").SetUIDMap(spawn.IDMap{HostID: 100000, Size: 65536}).Explain()
	fmt.Println(err)
	// Output: spawn: SetUIDMap: without SetNamespaces(UserNamespace) there is nothing to map
}

func ExampleCommand_SetGIDMap() {
	_, err := spawn.New("/bin/true").SetGIDMap(spawn.IDMap{HostID: 100000, Size: 100}, spawn.IDMap{ContainerID: 50, Size: 1}).Explain()
	fmt.Println(err)
	// Output: spawn: SetGIDMap: the maps {0 100000 100} and {50 0 1} overlap
}

func ExampleCommand_JoinNamespace() {
	f, err := os.Open("/proc/self/ns/uts")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	text, err := spawn.New("/bin/true").JoinNamespace(spawn.UTSNamespace, f).Explain()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Contains(text, ", CLONE_NEWUTS)\n"))
	// Output: true
}

func ExampleCommand_SetNice() {
	printCalls(spawn.New("/bin/true").SetNice(19), "setpriority")
	// Output: setpriority(PRIO_PROCESS, 0, 19)
}

func ExampleCommand_SetScheduler() {
	printCalls(spawn.New("/bin/true").SetScheduler(spawn.Scheduler{Policy: spawn.SchedFIFO, Priority: 10}), "sched_setscheduler")
	// Output: sched_setscheduler(0, SCHED_FIFO, [10])
}

func ExampleCommand_SetCPUAffinity() {
	printOutput(spawn.New("grep", "Cpus_allowed_list", "/proc/self/status").SetCPUAffinity(0))
	// Output: Cpus_allowed_list:	0
}

func ExampleCommand_SetNUMAPolicy() {
	printCalls(spawn.New("/bin/true").SetNUMAPolicy(spawn.NUMABind, 0), "set_mempolicy")
	// Output: set_mempolicy(MPOL_BIND, [0x1], 65)
}

func ExampleCommand_SetIOPriority() {
	printCalls(spawn.New("/bin/true").SetIOPriority(spawn.IOPriorityIdle, 0), "ioprio_set")
	// Output: ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0))
}

func ExampleCommand_SetTimerSlack() {
	printCalls(spawn.New("/bin/true").SetTimerSlack(time.Millisecond), "prctl(PR_SET_TIMERSLACK")
	// Output: prctl(PR_SET_TIMERSLACK, 1000000)
}

func ExampleCommand_SetRunAlone() {
	if err := spawn.New("/bin/true").SetRunAlone().Run(context.Background()); errors.Is(err, errors.ErrUnsupported) {
		fmt.Fprintln(os.Stderr, err) // ... the kernel has no core scheduling
	}
}

func ExampleCommand_SetRunAmong() {
	if err := spawn.New("/bin/true").SetRunAmong(os.Getpid()).Run(context.Background()); errors.Is(err, errors.ErrUnsupported) {
		fmt.Fprintln(os.Stderr, err) // ... the kernel has no core scheduling
	}
}

func ExampleCommand_SetOOMScoreAdj() {
	printOutput(spawn.New("cat", "/proc/self/oom_score_adj").SetOOMScoreAdj(1000))
	// Output: 1000
}

func ExampleCommand_SetCoredumpFilter() {
	printOutput(spawn.New("cat", "/proc/self/coredump_filter").SetCoredumpFilter(0x11))
	// Output: 00000011
}

func ExampleCommand_SetPersonality() {
	printCalls(spawn.New("/bin/true").SetPersonality(spawn.PersonalityLinux32|spawn.PersonalityAddrNoRandomize), "personality")
	// Output: personality(PER_LINUX32|ADDR_NO_RANDOMIZE)
}

func ExampleCommand_SetKeyring() {
	printCalls(spawn.New("/bin/true").SetKeyring(spawn.KeyringPrivate), "keyctl")
	// Output: keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)
}

func ExampleCommand_SetChroot() {
	printCalls(spawn.New("/bin/true").SetChroot("/srv/guest").SetUID(4242).SetGID(4242).SetWorkingDirectory("data"), "chroot", "setresuid", "chdir")
	// Output:
	// chroot("/srv/guest")
	// chdir("/")
	// setresuid(4242, 4242, 4242)
	// chdir("data")
}

func ExampleCommand_SetCgroup() {
	err := spawn.New("/bin/true").SetCgroup("/tmp").Run(context.Background())
	fmt.Println(err)
	// Output: spawn: SetCgroup: /tmp is not in a cgroup v2 file system
}

func ExampleCommand_SetControllingTTY() {
	f, err := os.Open(os.DevNull)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	err = spawn.New("/bin/true").SetControllingTTY(f).Run(context.Background())
	fmt.Println(errors.Is(err, syscall.ENOTTY))
	// Output: true
}

func ExampleCommand_SetIgnoredSignals() {
	printOutput(spawn.New("grep", "SigIgn", "/proc/self/status").SetIgnoredSignals(syscall.SIGHUP, syscall.SIGPIPE))
	// Output: SigIgn:	0000000000001001
}

func ExampleCommand_SetParentDeathSignal() {
	// Should this process be killed, the program does not outlive it.
	printOutput(spawn.New("echo", "hello").SetParentDeathSignal(syscall.SIGKILL))
	// Output: hello
}

// Whatever a daemon starts is in one of two directories, and runs without ways
// to gain privileges.
func ExampleSetPolicy_noNewPrivs() {
	restore := spawn.SetPolicy(func(c *spawn.Command) error {
		if dir := filepath.Dir(c.Path()); dir != "/usr/sbin" && dir != "/bin" {
			return fmt.Errorf("%s is in neither /usr/sbin nor /bin", c.Path())
		}
		c.SetNoNewPrivs()
		return nil
	})
	defer restore()
	printCalls(spawn.New("/bin/grep"), "prctl(PR_SET_NO_NEW_PRIVS")
	out, err := spawn.New("/bin/grep", "NoNewPrivs", "/proc/self/status").Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
	fmt.Println(spawn.Run(context.Background(), "/usr/bin/env"))
	// Output:
	// prctl(PR_SET_NO_NEW_PRIVS, 1)
	// NoNewPrivs:	1
	// spawn: cannot start "/usr/bin/env": SetPolicy: /usr/bin/env is in neither /usr/sbin nor /bin
}

func ExampleCommand_SetMemoryDenyWriteExecute() {
	text, err := spawn.New("/usr/libexec/frobnicated").SetMemoryDenyWriteExecute().Explain()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(strings.Contains(text, "prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)"))
	// Output:
	// true
}

func ExampleCommand_SetTransparentHugepages() {
	text, err := spawn.New("/usr/bin/redis-server").SetTransparentHugepages(false).Explain()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(strings.Contains(text, "prctl(PR_SET_THP_DISABLE, 1)"))
	// Output:
	// true
}
