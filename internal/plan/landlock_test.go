//go:build linux

package plan_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["landlock"] = tryLandlock
}

// tryLandlock tries to read a file, to write to another, and to bind and
// connect to a port, and prints what came of it.
func tryLandlock(args []string) int {
	_, readErr := os.ReadFile(args[0] + "/in/text")
	_, otherErr := os.ReadFile(args[0] + "/other/text")
	writeErr := os.WriteFile(args[0]+"/out/new", nil, 0o600)
	fmt.Println(testkit.Say(readErr), testkit.Say(otherErr), testkit.Say(writeErr))
	for _, port := range args[1:] {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
		}
		fmt.Println(testkit.Say(err))
	}
	return 0
}

// landlockPlace returns a directory with in/text, out and other/text, which
// every user may use, and a command that tries what it may do there.
func landlockPlace(t testing.TB, args ...string) (dir string, c *spawn.Command) {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	dir, err := os.MkdirTemp("", "spawn")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"/in", "/out", "/other"} {
		require.NoError(t, os.Mkdir(dir+name, 0o777))
		require.NoError(t, unix.Chmod(dir+name, 0o777))
		require.NoError(t, os.WriteFile(dir+name+"/text", nil, 0o644))
	}
	require.NoError(t, unix.Chmod(dir, 0o755))
	return dir, testkit.HelperCommand(t, "landlock", append([]string{dir}, args...)...)
}

// ownFiles allow this test binary to run.
func ownFiles(t testing.TB) []spawn.LandlockPath {
	paths := []spawn.LandlockPath{{Path: filepath.Dir(testkit.Self(t)), Rights: spawn.LandlockReadOnly}}
	for _, dir := range []string{"/bin", "/lib", "/lib64", "/usr", "/etc", "/proc", "/sys", "/dev"} {
		if _, err := os.Stat(dir); err == nil {
			paths = append(paths, spawn.LandlockPath{Path: dir, Rights: spawn.LandlockReadOnly | spawn.LandlockWriteFile})
		}
	}
	return paths
}

func init() {
	testkit.Helpers["no-landlock"] = func([]string) int {
		text, err := spawn.New("/bin/true").SetLandlock(spawn.Landlock{BestEffort: true}).Explain()
		if err != nil {
			return testkit.Fail(err)
		}
		fmt.Println(plan.LandlockVersion(), strings.Contains(text, "landlock_restrict_self("), strings.Contains(text, "prctl(PR_SET_NO_NEW_PRIVS, 1)"))
		return 0
	}
}

// TestLandlockThatTheKernelHasNotStillSetsNoNewPrivs: a filter stands in for
// the kernel without it.
func TestLandlockThatTheKernelHasNotStillSetsNoNewPrivs(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	c := testkit.HelperCommand(t, "no-landlock").SetSeccompFilter(testkit.FilterOf(unix.SYS_LANDLOCK_CREATE_RULESET, unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS), 0))
	require.Equal(t, "0 false true\n", testkit.OutputOf(t, c))
}

func TestLandlockAllowsWhatIsAskedForAndNoMore(t *testing.T) {
	testkit.NeedsLandlock(t, 1)
	testkit.CheckLeaks(t)
	dir, c := landlockPlace(t)
	require.Equal(t, "good good good\n", testkit.OutputOf(t, c))
	paths := append(ownFiles(t), spawn.LandlockPath{Path: dir + "/in", Rights: spawn.LandlockReadOnly})
	require.Equal(t, "good refused refused\n", testkit.OutputOf(t, c.Clone().SetLandlock(spawn.Landlock{Paths: paths})))
	paths = append(paths, spawn.LandlockPath{Path: dir + "/out", Rights: spawn.LandlockReadWrite})
	require.Equal(t, "good refused good\n", testkit.OutputOf(t, c.Clone().SetLandlock(spawn.Landlock{Paths: paths, BestEffort: true, Version: 1})))
	// A rule for a file leaves out what only directories can have.
	paths[len(paths)-2] = spawn.LandlockPath{Path: dir + "/in/text", Rights: spawn.LandlockReadWrite}
	require.Equal(t, "good refused good\n", testkit.OutputOf(t, c.Clone().SetLandlock(spawn.Landlock{Paths: paths, Version: 1})))

	fields, err := testkit.StatusOf(testkit.CatStatus().SetLandlock(spawn.Landlock{Paths: ownFiles(t), Version: 1}))
	require.NoError(t, err)
	require.Equal(t, "1", fields["NoNewPrivs"])
}

func TestLandlockComesWithEverythingElse(t *testing.T) {
	testkit.NeedsLandlock(t, 1)
	testkit.CheckLeaks(t)
	dir, c := landlockPlace(t)
	paths := append(ownFiles(t), spawn.LandlockPath{Path: dir + "/in", Rights: spawn.LandlockReadOnly})
	c.SetLandlock(spawn.Landlock{Paths: paths, Version: 1}).SetSeccompFilter(testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 0)).SetOOMScoreAdj(900)
	require.Equal(t, "good refused refused\n", testkit.OutputOf(t, c))
	file, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer file.Close()
	// The rules' own descriptor gives way to those that are passed.
	for fd := 3; fd < 12; fd++ {
		c.PassFDAs(file, fd)
	}
	require.Equal(t, "good refused refused\n", testkit.OutputOf(t, c))
}

func TestLandlockOfPorts(t *testing.T) {
	testkit.NeedsLandlock(t, 4)
	testkit.CheckLeaks(t)
	var ports []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
		ports = append(ports, port)
	}
	dir, c := landlockPlace(t, ports...)
	require.Equal(t, "good good good\ngood\ngood\n", testkit.OutputOf(t, c))
	port, err := strconv.Atoi(ports[0])
	require.NoError(t, err)
	paths := append(ownFiles(t), spawn.LandlockPath{Path: dir, Rights: spawn.LandlockReadWrite | spawn.LandlockTruncate})
	allowed := []spawn.LandlockPort{{Port: uint16(port), Rights: spawn.LandlockConnectTCP}}
	require.Equal(t, "good good good\ngood\nrefused\n", testkit.OutputOf(t, c.Clone().SetLandlock(spawn.Landlock{Paths: paths, Ports: allowed})))
	require.Equal(t, "good good good\nrefused\nrefused\n", testkit.OutputOf(t, c.Clone().SetLandlock(spawn.Landlock{Paths: paths, Version: 4})))
	require.Equal(t, "good good good\ngood\ngood\n", testkit.OutputOf(t, c.Clone().SetLandlock(spawn.Landlock{Paths: paths, Version: 3})))
}

func TestLandlockKeepsSignalsInside(t *testing.T) {
	testkit.NeedsLandlock(t, 6)
	testkit.CheckLeaks(t)
	// kill is the shell's own; this process is the shell's parent, and of the
	// same user.
	for version, refused := range map[int]bool{5: false, 6: true} {
		c := spawn.New("/bin/sh", "-c", "kill -0 "+strconv.Itoa(os.Getpid()))
		status, err := c.SetLandlock(spawn.Landlock{Paths: ownFiles(t), Version: version}).RunStatus(context.Background())
		require.NoError(t, err)
		require.Equal(t, refused, status.ExitCode != 0, "version %d", version)
	}
}

// An older kernel than asked for is an error, or, with best effort, does what
// it can.
func TestLandlockOfAnotherVersionThanTheKernels(t *testing.T) {
	testkit.CheckLeaks(t)
	have := plan.LandlockVersion()
	if have >= command.MaxLandlock {
		t.Skipf("needs a kernel with less than version %d of Landlock", command.MaxLandlock)
	}
	dir, c := landlockPlace(t)
	l := spawn.Landlock{Paths: append(ownFiles(t), spawn.LandlockPath{Path: dir + "/in", Rights: spawn.LandlockReadOnly}), Version: command.MaxLandlock}
	err := c.Clone().SetLandlock(l).Run(context.Background())
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, fmt.Sprintf("SetLandlock: version %d of Landlock is needed, and the kernel has %d (BestEffort takes less)", command.MaxLandlock, have))
	l.BestEffort = true
	want := "good refused refused\n"
	if have == 0 {
		want = "good good good\n"
	}
	require.Equal(t, want, testkit.OutputOf(t, c.Clone().SetLandlock(l)))
	l.Ports, l.Version = []spawn.LandlockPort{{Port: 1, Rights: spawn.LandlockBindTCP}}, 0
	require.Equal(t, want, testkit.OutputOf(t, c.Clone().SetLandlock(l)))
	if have < 4 {
		l.BestEffort = false
		require.ErrorContains(t, c.SetLandlock(l).Run(context.Background()), "version 4 of Landlock is needed")
	}
}

func TestWhatRulesNeed(t *testing.T) {
	for want, l := range map[int]spawn.Landlock{
		1: {},
		2: {Paths: []spawn.LandlockPath{{Path: "/", Rights: spawn.LandlockRefer}}},
		3: {Paths: []spawn.LandlockPath{{Path: "/", Rights: spawn.LandlockRefer | spawn.LandlockTruncate}}, Version: 1},
		4: {Ports: []spawn.LandlockPort{{Port: 1, Rights: spawn.LandlockBindTCP}}, Version: 2},
		5: {Ports: []spawn.LandlockPort{{Port: 1, Rights: spawn.LandlockBindTCP}}, Paths: []spawn.LandlockPath{{Path: "/", Rights: spawn.LandlockIoctlDev}}},
		6: {Version: 6},
	} {
		require.Equal(t, want, testkit.Wanted(spawn.New("/bin/true").SetLandlock(l)).Confinement.Landlock.Needed())
	}
}

func TestBadRulesAreBadCalls(t *testing.T) {
	testkit.CheckLeaks(t)
	cases := map[string]spawn.Landlock{
		"SetLandlock: the version 7":                    {Version: 7},
		"SetLandlock: the version -1":                   {Version: -1},
		"SetLandlock: a path is empty":                  {Paths: []spawn.LandlockPath{{Path: "", Rights: spawn.LandlockReadOnly}}},
		"SetLandlock: the path \"a\\x00\"":              {Paths: []spawn.LandlockPath{{Path: "a\x00", Rights: spawn.LandlockReadOnly}}},
		"SetLandlock: 0x0 are no rights for the path":   {Paths: []spawn.LandlockPath{{Path: "/", Rights: 0}}},
		"SetLandlock: 0x10000 are no rights":            {Paths: []spawn.LandlockPath{{Path: "/", Rights: 1 << 16}}},
		"SetLandlock: version 2 has no rights 0x4000":   {Paths: []spawn.LandlockPath{{Path: "/", Rights: spawn.LandlockTruncate}}, Version: 2},
		"SetLandlock: 0x4 are no rights for the port 9": {Ports: []spawn.LandlockPort{{Port: 9, Rights: 4}}},
		"SetLandlock: version 3 has no rights for por":  {Ports: []spawn.LandlockPort{{Port: 9, Rights: 1}}, Version: 3},
	}
	if plan.LandlockVersion() > 0 {
		cases["SetLandlock: allow /nonexistent: no such file"] = spawn.Landlock{Paths: []spawn.LandlockPath{{Path: "/nonexistent", Rights: spawn.LandlockReadOnly}}, Version: 1}
		cases["SetLandlock: allow /dev/null: the rights are for dir"] = spawn.Landlock{Paths: []spawn.LandlockPath{{Path: "/dev/null", Rights: spawn.LandlockReadDir}}, Version: 1}
	}
	for want, l := range cases {
		err := spawn.New("/bin/true").SetLandlock(l).Run(context.Background())
		require.ErrorContains(t, err, want)
		var bad *spawn.CallError
		require.True(t, errors.As(err, &bad), "%v", err)
	}
}
