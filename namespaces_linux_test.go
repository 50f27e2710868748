package spawn

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSetNamespacesGivesEachKindAndNoOther(t *testing.T) {
	needUserNamespaces(t)
	for kind, name := range allKinds {
		t.Run(name, func(t *testing.T) {
			if kind == TimeNamespace {
				_, err := os.Stat("/proc/self/ns/time")
				needs(t, "a kernel with time namespaces", err, fs.ErrNotExist)
			}
			asked := []Namespace{kind}
			if os.Geteuid() != 0 {
				asked = append(asked, UserNamespace)
			}
			p := waitingIn(t, New("/bin/cat").SetNamespaces(asked...))
			dir := "/proc/" + strconv.Itoa(p.PID()) + "/ns/"
			for other, name := range allKinds {
				ours, err := os.Readlink("/proc/self/ns/" + name)
				if err != nil {
					continue
				}
				theirs := readlink(t, dir+name)
				if other == kind || other == UserNamespace && os.Geteuid() != 0 {
					require.NotEqual(t, ours, theirs, name)
				} else {
					require.Equal(t, ours, theirs, name)
				}
			}
		})
	}
}

func TestMapsMakeOneselfRootInside(t *testing.T) {
	needUserNamespaces(t)
	out, err := New("/bin/sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map").
		SetNamespaces(UserNamespace, PIDNamespace, NetworkNamespace, MountNamespace, UTSNamespace, IPCNamespace).
		SetUIDMap(IDMap{0, os.Geteuid(), 1}).SetGIDMap(IDMap{0, os.Getegid(), 1}).
		Output(context.Background())
	require.NoError(t, err)
	uid, gid := strconv.Itoa(os.Geteuid()), strconv.Itoa(os.Getegid())
	require.Equal(t, []string{"0", "0", "0", uid, "1", "0", gid, "1"}, strings.Fields(string(out)))
}

func TestUsersOfAMapCanBeSet(t *testing.T) {
	needRoot(t, "to map more than one's own ids")
	needUserNamespaces(t)
	out, err := New("/bin/sh", "-c", "id -u; id -g; id -G").SetNamespaces(UserNamespace).
		SetUIDMap(IDMap{0, 100000, 1000}, IDMap{5000, 200000, 10}).SetGIDMap(IDMap{0, 100000, 1000}).
		SetUID(5003).SetGID(7).SetGroups(8, 9).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, []string{"5003", "7", "7", "8", "9"}, strings.Fields(string(out)))
}

func TestThePIDNamespacesFirstProcessIsTheProgram(t *testing.T) {
	needUserNamespaces(t)
	out, err := New("/bin/sh", "-c", "echo $$").SetNamespaces(PIDNamespace, UserNamespace).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "1\n", string(out))
}

func TestMountsInANewNamespaceStayThere(t *testing.T) {
	needRoot(t, "to mount")
	dir := t.TempDir()
	out, err := New("/bin/sh", "-c", `mount -t tmpfs none "$1" && touch "$1/inside" && ls "$1"`, "sh", dir).
		SetNamespaces(MountNamespace).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "inside\n", string(out))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestJoinNamespaceEntersAnotherProcesss(t *testing.T) {
	needRoot(t, "to join namespaces")
	needUserNamespaces(t)
	kinds := []Namespace{MountNamespace, UTSNamespace, IPCNamespace, NetworkNamespace, UserNamespace, PIDNamespace, CgroupNamespace}
	host := waitingIn(t, New("/bin/cat").SetNamespaces(kinds...).
		SetUIDMap(IDMap{0, 0, 1}).SetGIDMap(IDMap{0, 0, 1}))
	for _, kind := range kinds {
		t.Run(allKinds[kind], func(t *testing.T) {
			path := "/proc/" + strconv.Itoa(host.PID()) + "/ns/" + allKinds[kind]
			f, err := os.Open(path)
			require.NoError(t, err)
			defer f.Close()
			c := New("/bin/cat").JoinNamespace(kind, f)
			if kind == UserNamespace && !helperForced() {
				err := by(c, forkedHelper).Run(context.Background())
				require.ErrorIs(t, err, errors.ErrUnsupported)
				require.ErrorContains(t, err, "JoinNamespace: ")
				needClone(t)
			}
			p := waitingIn(t, c)
			require.Equal(t, readlink(t, path), readlink(t, "/proc/"+strconv.Itoa(p.PID())+"/ns/"+allKinds[kind]))
			require.NotEqual(t, readlink(t, path), readlink(t, "/proc/self/ns/"+allKinds[kind]))
		})
	}
}

func TestNamespacesThatAreRefusedSaySo(t *testing.T) {
	needUserNamespaces(t)
	checkLeaks(t)
	if os.Geteuid() != 0 {
		err := New("/bin/true").SetNamespaces(NetworkNamespace).Run(context.Background())
		require.ErrorIs(t, err, unix.EPERM)
		require.ErrorContains(t, err, "CLONE_NEWNET")
		maps := New("/bin/true").SetNamespaces(UserNamespace).SetUIDMap(IDMap{0, 0, 1})
		var start *StartError
		require.ErrorAs(t, maps.Run(context.Background()), &start)
		if canClone() {
			require.Contains(t, start.Op, "uid_map")
		} else { // package syscall writes the map, and does not say what failed
			require.Contains(t, start.Op, "CLONE_NEWUSER")
		}
		require.ErrorIs(t, start, unix.EPERM)
	}
	f, err := os.Open("/proc/self/ns/uts")
	require.NoError(t, err)
	var start *StartError
	require.ErrorAs(t, New("/bin/true").JoinNamespace(NetworkNamespace, f).Run(context.Background()), &start)
	require.Contains(t, start.Op, "setns(")
	require.ErrorIs(t, start, unix.EINVAL)
	require.NoError(t, f.Close())
	require.ErrorIs(t, New("/bin/true").JoinNamespace(NetworkNamespace, f).Run(context.Background()), os.ErrClosed)
}

func TestBadNamespacesAreBadCalls(t *testing.T) {
	f, err := os.Open("/proc/self/ns/net")
	require.NoError(t, err)
	defer f.Close()
	commands := map[string]*Command{
		"SetNamespaces: 0x1 is not":                    New("x").SetNamespaces(1),
		"JoinNamespace: 0x30000000 is not one":         New("x").JoinNamespace(PIDNamespace|UserNamespace, f),
		"JoinNamespace: the file is nil":               New("x").JoinNamespace(NetworkNamespace, nil),
		"JoinNamespace: there is a namespace":          New("x").SetNamespaces(NetworkNamespace).JoinNamespace(NetworkNamespace, f),
		"SetNamespaces: the namespace 0x40000000":      New("x").JoinNamespace(NetworkNamespace, f).SetNamespaces(NetworkNamespace),
		"SetUIDMap: the map {0 0 0}":                   New("x").SetUIDMap(IDMap{0, 0, 0}),
		"SetGIDMap: the map {-1 0 1}":                  New("x").SetGIDMap(IDMap{-1, 0, 1}),
		"SetUIDMap: the maps {0 2147483647 1} and {9":  New("x").SetUIDMap(IDMap{0, 1<<31 - 1, 1}, IDMap{9, 1<<31 - 1, 1}),
		"SetUIDMap: the maps {0 0 10} and {9 100 1}":   New("x").SetUIDMap(IDMap{0, 0, 10}, IDMap{9, 100, 1}),
		"SetGIDMap: the maps {0 5 10} and {100 14 10}": New("x").SetGIDMap(IDMap{0, 5, 10}, IDMap{100, 14, 10}),
		"SetUIDMap: 341 maps":                          New("x").SetUIDMap(make([]IDMap, 341)...),
		"SetUIDMap: without SetNamespaces":             New("/bin/true").SetUIDMap(IDMap{0, 0, 1}),
	}
	if last := int64(math.MaxUint32); last <= math.MaxInt { // on a 32-bit processor no int is too large
		commands["SetUIDMap: the map {0 4294967295 1}"] = New("x").SetUIDMap(IDMap{0, int(last), 1})
	}
	for want, c := range commands {
		err := c.Run(context.Background())
		require.ErrorContains(t, err, want)
		var bad *CallError
		require.True(t, errors.As(err, &bad), "%v", err)
	}
}

func TestAFailureInACopyOfTheMemoryIsReported(t *testing.T) {
	needUserNamespaces(t)
	checkLeaks(t)
	for range 20 {
		for _, run := range []func(*Command) error{
			func(c *Command) error { return c.Run(context.Background()) },
			func(c *Command) error { _, err := c.Start(context.Background()); return err },
			func(c *Command) error { _, err := c.Output(context.Background()); return err },
		} {
			var start *StartError
			require.ErrorAs(t, run(New("/nonexistent").SetNamespaces(UserNamespace)), &start)
			require.Equal(t, `execve("/nonexistent")`, start.Op)
			require.ErrorIs(t, start, unix.ENOENT)
			require.ErrorAs(t, run(New("/bin/true").SetNamespaces(UserNamespace).SetWorkingDirectory("/none")), &start)
			require.Equal(t, `chdir("/none")`, start.Op)
		}
	}
}
