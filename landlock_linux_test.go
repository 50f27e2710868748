package spawn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["landlock"] = tryLandlock
}

// tryLandlock tries to read a file, to write to another, and to bind and connect to a port, and prints what came of it.
func tryLandlock(args []string) int {
	_, readErr := os.ReadFile(args[0] + "/in/text")
	_, otherErr := os.ReadFile(args[0] + "/other/text")
	writeErr := os.WriteFile(args[0]+"/out/new", nil, 0o600)
	fmt.Println(say(readErr), say(otherErr), say(writeErr))
	for _, port := range args[1:] {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
		}
		fmt.Println(say(err))
	}
	return 0
}

// landlockPlace returns a directory with in/text, out and other/text, which every user may use, and a command that tries what it may do
// there.
func landlockPlace(t testing.TB, args ...string) (dir string, c *Command) {
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
	return dir, helperCommand(t, "landlock", append([]string{dir}, args...)...)
}

// ownFiles allow this test binary to run.
func ownFiles(t testing.TB) []LandlockPath {
	paths := []LandlockPath{{filepath.Dir(self(t)), LandlockReadOnly}}
	for _, dir := range []string{"/bin", "/lib", "/lib64", "/usr", "/etc", "/proc", "/sys", "/dev"} {
		if _, err := os.Stat(dir); err == nil {
			paths = append(paths, LandlockPath{dir, LandlockReadOnly | LandlockWriteFile})
		}
	}
	return paths
}

func TestLandlockAllowsWhatIsAskedForAndNoMore(t *testing.T) {
	needLandlock(t, 1)
	checkLeaks(t)
	dir, c := landlockPlace(t)
	require.Equal(t, "good good good\n", outputOf(t, c))
	paths := append(ownFiles(t), LandlockPath{dir + "/in", LandlockReadOnly})
	require.Equal(t, "good refused refused\n", outputOf(t, c.Clone().SetLandlock(Landlock{Paths: paths})))
	paths = append(paths, LandlockPath{dir + "/out", LandlockReadWrite})
	require.Equal(t, "good refused good\n", outputOf(t, c.Clone().SetLandlock(Landlock{Paths: paths, BestEffort: true, Version: 1})))
	// A rule for a file leaves out what only directories can have.
	paths[len(paths)-2] = LandlockPath{dir + "/in/text", LandlockReadWrite}
	require.Equal(t, "good refused good\n", outputOf(t, c.Clone().SetLandlock(Landlock{Paths: paths, Version: 1})))

	fields, err := statusOf(catStatus().SetLandlock(Landlock{Paths: ownFiles(t), Version: 1}))
	require.NoError(t, err)
	require.Equal(t, "1", fields["NoNewPrivs"])
}

func TestLandlockComesWithEverythingElse(t *testing.T) {
	needLandlock(t, 1)
	checkLeaks(t)
	dir, c := landlockPlace(t)
	paths := append(ownFiles(t), LandlockPath{dir + "/in", LandlockReadOnly})
	c.SetLandlock(Landlock{Paths: paths, Version: 1}).SetSeccompFilter(filterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 0)).SetOOMScoreAdj(900)
	require.Equal(t, "good refused refused\n", outputOf(t, c))
	file, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer file.Close()
	// The rules' own descriptor gives way to those that are passed.
	for fd := 3; fd < 12; fd++ {
		c.PassFDAs(file, fd)
	}
	require.Equal(t, "good refused refused\n", outputOf(t, c))
}

func TestLandlockOfPorts(t *testing.T) {
	needLandlock(t, 4)
	checkLeaks(t)
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
	require.Equal(t, "good good good\ngood\ngood\n", outputOf(t, c))
	port, err := strconv.Atoi(ports[0])
	require.NoError(t, err)
	paths := append(ownFiles(t), LandlockPath{dir, LandlockReadWrite | LandlockTruncate})
	allowed := []LandlockPort{{uint16(port), LandlockConnectTCP}}
	require.Equal(t, "good good good\ngood\nrefused\n", outputOf(t, c.Clone().SetLandlock(Landlock{Paths: paths, Ports: allowed})))
	require.Equal(t, "good good good\nrefused\nrefused\n", outputOf(t, c.Clone().SetLandlock(Landlock{Paths: paths, Version: 4})))
	require.Equal(t, "good good good\ngood\ngood\n", outputOf(t, c.Clone().SetLandlock(Landlock{Paths: paths, Version: 3})))
}

func TestLandlockKeepsSignalsInside(t *testing.T) {
	needLandlock(t, 6)
	checkLeaks(t)
	// kill is the shell's own; this process is the shell's parent, and of the same user.
	for version, refused := range map[int]bool{5: false, 6: true} {
		c := New("/bin/sh", "-c", "kill -0 "+strconv.Itoa(os.Getpid()))
		status, err := c.SetLandlock(Landlock{Paths: ownFiles(t), Version: version}).RunStatus(context.Background())
		require.NoError(t, err)
		require.Equal(t, refused, status.ExitCode != 0, "version %d", version)
	}
}

// An older kernel than asked for is an error, or, with best effort, does what it can.
func TestLandlockOfAnotherVersionThanTheKernels(t *testing.T) {
	checkLeaks(t)
	have := landlockVersion()
	if have >= maxLandlock {
		t.Skipf("needs a kernel with less than version %d of Landlock", maxLandlock)
	}
	dir, c := landlockPlace(t)
	l := Landlock{Paths: append(ownFiles(t), LandlockPath{dir + "/in", LandlockReadOnly}), Version: maxLandlock}
	err := c.Clone().SetLandlock(l).Run(context.Background())
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, fmt.Sprintf("SetLandlock: version %d of Landlock is needed, and the kernel has %d", maxLandlock, have))
	l.BestEffort = true
	want := "good refused refused\n"
	if have == 0 {
		want = "good good good\n"
	}
	require.Equal(t, want, outputOf(t, c.Clone().SetLandlock(l)))
	l.Ports, l.Version = []LandlockPort{{1, LandlockBindTCP}}, 0
	require.Equal(t, want, outputOf(t, c.Clone().SetLandlock(l)))
	if have < 4 {
		l.BestEffort = false
		require.ErrorContains(t, c.SetLandlock(l).Run(context.Background()), "version 4 of Landlock is needed")
	}
}

func TestWhatRulesNeed(t *testing.T) {
	for want, l := range map[int]Landlock{
		1: {},
		2: {Paths: []LandlockPath{{"/", LandlockRefer}}},
		3: {Paths: []LandlockPath{{"/", LandlockRefer | LandlockTruncate}}, Version: 1},
		4: {Ports: []LandlockPort{{1, LandlockBindTCP}}, Version: 2},
		5: {Ports: []LandlockPort{{1, LandlockBindTCP}}, Paths: []LandlockPath{{"/", LandlockIoctlDev}}},
		6: {Version: 6},
	} {
		require.Equal(t, want, wantedOf(New("/bin/true").SetLandlock(l)).confinement.landlock.needed())
	}
}

func TestBadRulesAreBadCalls(t *testing.T) {
	checkLeaks(t)
	cases := map[string]Landlock{
		"SetLandlock: the version 7":                    {Version: 7},
		"SetLandlock: the version -1":                   {Version: -1},
		"SetLandlock: a path is empty":                  {Paths: []LandlockPath{{"", LandlockReadOnly}}},
		"SetLandlock: the path \"a\\x00\"":              {Paths: []LandlockPath{{"a\x00", LandlockReadOnly}}},
		"SetLandlock: 0x0 are no rights for the path":   {Paths: []LandlockPath{{"/", 0}}},
		"SetLandlock: 0x10000 are no rights":            {Paths: []LandlockPath{{"/", 1 << 16}}},
		"SetLandlock: version 2 has no rights 0x4000":   {Paths: []LandlockPath{{"/", LandlockTruncate}}, Version: 2},
		"SetLandlock: 0x4 are no rights for the port 9": {Ports: []LandlockPort{{9, 4}}},
		"SetLandlock: version 3 has no rights for por":  {Ports: []LandlockPort{{9, 1}}, Version: 3},
	}
	if landlockVersion() > 0 {
		cases["SetLandlock: allow /nonexistent: no such file"] = Landlock{Paths: []LandlockPath{{"/nonexistent", LandlockReadOnly}}, Version: 1}
		cases["SetLandlock: allow /dev/null: the rights are for dir"] = Landlock{Paths: []LandlockPath{{"/dev/null", LandlockReadDir}}, Version: 1}
	}
	for want, l := range cases {
		err := New("/bin/true").SetLandlock(l).Run(context.Background())
		require.ErrorContains(t, err, want)
		var bad *CallError
		require.True(t, errors.As(err, &bad), "%v", err)
	}
}
