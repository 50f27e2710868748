package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

// dialer is the argument 0 with which this test binary connects to the TCP
// address that is its argument.
const dialer = "dial"

func init() {
	if os.Args[0] != dialer {
		return
	}
	if _, err := net.Dial("tcp", os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runFlags runs the program under test with flags, as words, and a program.
func runFlags(t *testing.T, flags string, program ...string) result {
	return runToEnd(t, spawnrun(t, slices.Concat(words(flags), []string{"--"}, program)...))
}

// needLandlock skips where the kernel does not have this version.
func needLandlock(t *testing.T, version int) {
	have, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || int(have) < version {
		t.Skipf("needs version %d of Landlock", version)
	}
}

// refusing returns a seccomp filter by which a system call does not exist.
func refusing(nr uint32) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: nr},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
}

func TestNullStdinIsNotSpawnrunsOwn(t *testing.T) {
	r := runToEnd(t, spawnrun(t, words("-null-stdin -- cat")...).SetInput([]byte("text")))
	require.Equal(t, result{}, r)
}

func TestExecReplacesSpawnrun(t *testing.T) {
	for flag, same := range map[string]bool{"-exec": true, "-umask=022": false} {
		p, err := spawnrun(t, slices.Concat([]string{flag, "--"}, sh("echo $$"))...).PipeStdout().Start(context.Background())
		require.NoError(t, err)
		out, err := io.ReadAll(p.Stdout())
		require.NoError(t, err)
		require.NoError(t, p.Wait())
		require.Equal(t, same, strconv.Itoa(p.PID())+"\n" == string(out), flag)
	}
}

func TestBoundingCapsDropsTheOthers(t *testing.T) {
	r := runFlags(t, "-explain -bounding-caps chown,dac_override", "/bin/true")
	require.Zero(t, r.code, r.stderr)
	require.NotRegexp(t, `CAPBSET_\w+, CAP_(CHOWN|DAC_OVERRIDE)\)`, r.stdout)
	for _, name := range words("CAP_KILL CAP_NET_RAW CAP_SYS_RESOURCE") {
		// What is not there is only looked at.
		require.Regexp(t, `(?m)^prctl\(PR_CAPBSET_(DROP, `+name+`\)|READ, `+name+`\) = 0)$`, r.stdout)
	}
}

func TestSeccompFiltersTheProgram(t *testing.T) {
	filter := filepath.Join(t.TempDir(), "filter")
	compiled, err := binary.Append(nil, binary.NativeEndian, refusing(unix.SYS_UMASK))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filter, compiled, 0o600))

	r := runFlags(t, "-explain -seccomp "+filter, "/bin/true")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "\nseccomp(SECCOMP_SET_MODE_FILTER, 0, {len=4, filter=")

	umask := sh("umask 01; umask")
	require.Equal(t, "0001\n", runFlags(t, "", umask...).stdout)
	require.NotEqual(t, "0001\n", runFlags(t, "-seccomp "+filter, umask...).stdout)
}

func TestLandlockPathConfinesTheProgram(t *testing.T) {
	needLandlock(t, 1)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NotZero(t, runFlags(t, "-landlock-path ro:/", "touch", file).code)
	require.NoFileExists(t, file)
	require.Equal(t, result{}, runFlags(t, "-landlock-path ro:/ -landlock-path rw:"+dir, "touch", file))
	require.FileExists(t, file)
}

func TestLandlockPortConfinesTheProgram(t *testing.T) {
	needLandlock(t, 4)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)

	connect := func(port string) result {
		return runFlags(t, "-landlock-path rw:/ -arg0 "+dialer+" -landlock-port connect:"+port, self, l.Addr().String())
	}
	require.Equal(t, result{}, connect(port))
	refused := connect("1")
	require.NotZero(t, refused.code)
	require.Contains(t, refused.stdout, "permission denied")

	bind := func(port string) result {
		// Go listens by MPTCP where there is that, which is not TCP
		// to Landlock.
		return runFlags(t, "-env-all -env GODEBUG=multipathtcp=0 -landlock-path rw:/ -arg0 "+argv0+" -landlock-port bind:"+port, slices.Concat([]string{self}, words("-listen 127.0.0.1:0 -- /bin/true"))...)
	}
	require.Equal(t, result{}, bind("0"))
	refused = bind("1")
	require.Equal(t, exitFailed, refused.code)
	require.Contains(t, refused.stderr, "permission denied")
}

// TestLandlockBestEffortDoesWithoutLandlock: a seccomp filter makes the kernel
// one without.
func TestLandlockBestEffortDoesWithoutLandlock(t *testing.T) {
	run := func(flags string) result {
		c := spawnrun(t, slices.Concat(words(flags), words("-landlock-path rw:/ -- echo ok"))...)
		return runToEnd(t, c.SetSeccompFilter(refusing(unix.SYS_LANDLOCK_CREATE_RULESET)).SetNoNewPrivs())
	}
	r := run("")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "SetLandlock: version 1 of Landlock is needed, and the kernel has 0 (BestEffort takes less)")
	require.Equal(t, result{stdout: "ok\n"}, run("-landlock-best-effort"))
}

func TestMacOptionalDoesWithoutTheModule(t *testing.T) {
	r := runFlags(t, "-smack l", "echo", "ok")
	if !strings.Contains(r.stderr, "the kernel does not run Smack") {
		t.Skip("the kernel runs Smack")
	}
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, result{stdout: "ok\n"}, runFlags(t, "-smack l -mac-optional", "echo", "ok"))
}

func TestMapsAreThoseOfANewUserNamespace(t *testing.T) {
	uid, gid := spawn.IDMap{HostID: os.Geteuid(), Size: 1}, spawn.IDMap{HostID: os.Getegid(), Size: 1}
	if err := spawn.New("/bin/true").SetNamespaces(spawn.UserNamespace).SetUIDMap(uid).SetGIDMap(gid).Run(context.Background()); err != nil {
		t.Skipf("no user namespaces: %v", err)
	}
	flags := fmt.Sprintf("-namespaces user -uid-map 7:%d:1 -gid-map 8:%d:1", os.Geteuid(), os.Getegid())
	require.Equal(t, result{stdout: "7 8\n"}, runFlags(t, flags, sh("echo $(id -u) $(id -g)")...))
}
