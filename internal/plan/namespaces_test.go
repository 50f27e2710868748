//go:build linux

package plan_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func TestSetNamespacesGivesEachKindAndNoOther(t *testing.T) {
	testkit.NeedsUserNamespaces(t)
	for kind, name := range testkit.AllKinds {
		t.Run(name, func(t *testing.T) {
			if kind == spawn.TimeNamespace {
				_, err := os.Stat("/proc/self/ns/time")
				testkit.Needs(t, "a kernel with time namespaces", err, fs.ErrNotExist)
			}
			c := spawn.New("/bin/cat").SetNamespaces(kind)
			if kind == spawn.UserNamespace || os.Geteuid() != 0 {
				testkit.InUserNamespace(c, kind)
			}
			p := testkit.WaitingIn(t, c)
			dir := "/proc/" + strconv.Itoa(p.PID()) + "/ns/"
			for other, name := range testkit.AllKinds {
				ours, err := os.Readlink("/proc/self/ns/" + name)
				if err != nil {
					continue
				}
				theirs := testkit.Readlink(t, dir+name)
				if other == kind || other == spawn.UserNamespace && os.Geteuid() != 0 {
					require.NotEqual(t, ours, theirs, name)
				} else {
					require.Equal(t, ours, theirs, name)
				}
			}
		})
	}
}

func TestMapsMakeOneselfRootInside(t *testing.T) {
	testkit.NeedsUserNamespaces(t)
	out, err := spawn.New("/bin/sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map").
		SetNamespaces(spawn.UserNamespace, spawn.PIDNamespace, spawn.NetworkNamespace, spawn.MountNamespace, spawn.UTSNamespace, spawn.IPCNamespace).
		SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Geteuid(), Size: 1}).SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: os.Getegid(), Size: 1}).
		Output(context.Background())
	require.NoError(t, err)
	uid, gid := strconv.Itoa(os.Geteuid()), strconv.Itoa(os.Getegid())
	require.Equal(t, []string{"0", "0", "0", uid, "1", "0", gid, "1"}, strings.Fields(string(out)))
}

func TestUsersOfAMapCanBeSet(t *testing.T) {
	testkit.NeedsRoot(t, "to map more than one's own ids")
	testkit.NeedsUserNamespaces(t)
	out, err := spawn.New("/bin/sh", "-c", "id -u; id -g; id -G").SetNamespaces(spawn.UserNamespace).
		SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: 100000, Size: 1000}, spawn.IDMap{ContainerID: 5000, HostID: 200000, Size: 10}).SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: 100000, Size: 1000}).
		SetUID(5003).SetGID(7).SetGroups(8, 9).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, []string{"5003", "7", "7", "8", "9"}, strings.Fields(string(out)))
}

func TestThePIDNamespacesFirstProcessIsTheProgram(t *testing.T) {
	testkit.NeedsUserNamespaces(t)
	out, err := testkit.InUserNamespace(spawn.New("/bin/sh", "-c", "echo $$"), spawn.PIDNamespace).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "1\n", string(out))
}

func TestMountsInANewNamespaceStayThere(t *testing.T) {
	testkit.NeedsRoot(t, "to mount")
	dir := t.TempDir()
	out, err := spawn.New("/bin/sh", "-c", `mount -t tmpfs none "$1" && touch "$1/inside" && ls "$1"`, "sh", dir).
		SetNamespaces(spawn.MountNamespace).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "inside\n", string(out))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestJoinNamespaceEntersAnotherProcesss(t *testing.T) {
	testkit.NeedsRoot(t, "to join namespaces")
	testkit.NeedsUserNamespaces(t)
	kinds := []spawn.Namespace{spawn.MountNamespace, spawn.UTSNamespace, spawn.IPCNamespace, spawn.NetworkNamespace, spawn.UserNamespace, spawn.PIDNamespace, spawn.CgroupNamespace}
	host := testkit.WaitingIn(t, spawn.New("/bin/cat").SetNamespaces(kinds...).
		SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: 0, Size: 1}).SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: 0, Size: 1}))
	for _, kind := range kinds {
		t.Run(testkit.AllKinds[kind], func(t *testing.T) {
			path := "/proc/" + strconv.Itoa(host.PID()) + "/ns/" + testkit.AllKinds[kind]
			f, err := os.Open(path)
			require.NoError(t, err)
			defer f.Close()
			c := spawn.New("/bin/cat").JoinNamespace(kind, f)
			if kind == spawn.UserNamespace {
				c.SetUID(0).SetGID(0)
			}
			if kind == spawn.UserNamespace && !plan.HelperForced() {
				err := testkit.By(c, plan.ForkedHelper).Run(context.Background())
				require.ErrorIs(t, err, errors.ErrUnsupported)
				require.ErrorContains(t, err, "JoinNamespace: ")
				testkit.NeedsClone(t)
			}
			p := testkit.WaitingIn(t, c)
			require.Equal(t, testkit.Readlink(t, path), testkit.Readlink(t, "/proc/"+strconv.Itoa(p.PID())+"/ns/"+testkit.AllKinds[kind]))
			require.NotEqual(t, testkit.Readlink(t, path), testkit.Readlink(t, "/proc/self/ns/"+testkit.AllKinds[kind]))
		})
	}
}

func TestNamespacesThatAreRefusedSaySo(t *testing.T) {
	testkit.NeedsUserNamespaces(t)
	testkit.CheckLeaks(t)
	if os.Geteuid() != 0 {
		err := spawn.New("/bin/true").SetNamespaces(spawn.NetworkNamespace).Run(context.Background())
		require.ErrorIs(t, err, unix.EPERM)
		require.ErrorContains(t, err, "CLONE_NEWNET")
		maps := spawn.New("/bin/true").SetNamespaces(spawn.UserNamespace).SetUID(0).SetGID(0).
			SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: 0, Size: 1}).SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: 0, Size: 1})
		var start *spawn.StartError
		require.ErrorAs(t, maps.Run(context.Background()), &start)
		if plan.CanClone() {
			require.Contains(t, start.Op, "uid_map")
		} else { // package syscall writes the map, and does not say what failed
			require.Contains(t, start.Op, "CLONE_NEWUSER")
		}
		require.ErrorIs(t, start, unix.EPERM)
	}
	f, err := os.Open("/proc/self/ns/uts")
	require.NoError(t, err)
	var start *spawn.StartError
	require.ErrorAs(t, spawn.New("/bin/true").JoinNamespace(spawn.NetworkNamespace, f).Run(context.Background()), &start)
	require.Contains(t, start.Op, "setns(")
	require.ErrorIs(t, start, unix.EINVAL)
	require.NoError(t, f.Close())
	require.ErrorIs(t, spawn.New("/bin/true").JoinNamespace(spawn.NetworkNamespace, f).Run(context.Background()), os.ErrClosed)
}

func TestBadNamespacesAreBadCalls(t *testing.T) {
	f, err := os.Open("/proc/self/ns/net")
	require.NoError(t, err)
	defer f.Close()
	commands := map[string]*spawn.Command{
		"SetNamespaces: 0x1 is not":                              spawn.New("x").SetNamespaces(1),
		"JoinNamespace: 0x30000000 is not one":                   spawn.New("x").JoinNamespace(spawn.PIDNamespace|spawn.UserNamespace, f),
		"JoinNamespace: the file is nil":                         spawn.New("x").JoinNamespace(spawn.NetworkNamespace, nil),
		"JoinNamespace: there is a network namespace already":    spawn.New("x").SetNamespaces(spawn.NetworkNamespace).JoinNamespace(spawn.NetworkNamespace, f),
		"SetNamespaces: the network namespace is joined already": spawn.New("x").JoinNamespace(spawn.NetworkNamespace, f).SetNamespaces(spawn.NetworkNamespace),
		"SetUIDMap: the map {0 0 0}":                             spawn.New("x").SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: 0, Size: 0}),
		"SetGIDMap: the map {-1 0 1}":                            spawn.New("x").SetGIDMap(spawn.IDMap{ContainerID: -1, HostID: 0, Size: 1}),
		"SetUIDMap: the maps {0 2147483647 1} and {9":            spawn.New("x").SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: 1<<31 - 1, Size: 1}, spawn.IDMap{ContainerID: 9, HostID: 1<<31 - 1, Size: 1}),
		"SetUIDMap: the maps {0 0 10} and {9 100 1}":             spawn.New("x").SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: 0, Size: 10}, spawn.IDMap{ContainerID: 9, HostID: 100, Size: 1}),
		"SetGIDMap: the maps {0 5 10} and {100 14 10}":           spawn.New("x").SetGIDMap(spawn.IDMap{ContainerID: 0, HostID: 5, Size: 10}, spawn.IDMap{ContainerID: 100, HostID: 14, Size: 10}),
		"SetUIDMap: 341 maps":                                    spawn.New("x").SetUIDMap(make([]spawn.IDMap, 341)...),
		"SetUIDMap: without SetNamespaces":                       spawn.New("/bin/true").SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: 0, Size: 1}),
	}
	if last := int64(math.MaxUint32); last <= math.MaxInt {
		// On a 32-bit processor no int is too large.
		commands["SetUIDMap: the map {0 4294967295 1}"] = spawn.New("x").SetUIDMap(spawn.IDMap{ContainerID: 0, HostID: int(last), Size: 1})
	}
	for want, c := range commands {
		err := c.Run(context.Background())
		require.ErrorContains(t, err, want)
		var bad *spawn.CallError
		require.True(t, errors.As(err, &bad), "%v", err)
	}
}

func TestAFailureInACopyOfTheMemoryIsReported(t *testing.T) {
	testkit.NeedsUserNamespaces(t)
	testkit.CheckLeaks(t)
	for range 20 {
		for _, run := range []func(*spawn.Command) error{
			func(c *spawn.Command) error { return c.Run(context.Background()) },
			func(c *spawn.Command) error { _, err := c.Start(context.Background()); return err },
			func(c *spawn.Command) error { _, err := c.Output(context.Background()); return err },
		} {
			var start *spawn.StartError
			require.ErrorAs(t, run(testkit.InUserNamespace(spawn.New("/nonexistent"))), &start)
			require.Equal(t, `execve("/nonexistent")`, start.Op)
			require.ErrorIs(t, start, unix.ENOENT)
			require.ErrorAs(t, run(testkit.InUserNamespace(spawn.New("/bin/true")).SetWorkingDirectory("/none")), &start)
			require.Equal(t, `chdir("/none")`, start.Op)
		}
	}
}

var hookShowsNamespaces = spawn.RegisterHook("shows namespaces", func(string) error {
	show := func(who string) {
		for _, kind := range []string{"mnt", "uts"} {
			link, err := os.Readlink("/proc/thread-self/ns/" + kind)
			fmt.Println(who, link, err)
		}
	}
	show("hook")
	done := make(chan int)
	go func() {
		defer close(done)
		show("goroutine")
	}()
	<-done
	return nil
})

// TestAHookIsInTheNamespacesAndItsGoroutinesWhereTheDocumentationSays: the hook
// has the main thread to itself.
func TestAHookIsInTheNamespacesAndItsGoroutinesWhereTheDocumentationSays(t *testing.T) {
	testkit.NeedsRoot(t, "to join namespaces")
	testkit.CheckLeaks(t)
	host := testkit.WaitingIn(t, spawn.New("/bin/cat").SetNamespaces(spawn.MountNamespace, spawn.UTSNamespace))
	c := spawn.New("/bin/true").SetPreExecHook(hookShowsNamespaces, "")
	link := func(pid int, kind string) string {
		return testkit.Readlink(t, "/proc/"+strconv.Itoa(pid)+"/ns/"+kind)
	}
	for kind, name := range map[spawn.Namespace]string{spawn.MountNamespace: "mnt", spawn.UTSNamespace: "uts"} {
		f, err := os.Open("/proc/" + strconv.Itoa(host.PID()) + "/ns/" + name)
		require.NoError(t, err)
		defer f.Close()
		c.JoinNamespace(kind, f)
	}
	executors := map[plan.Executor]int{plan.ForkedHelper: os.Getpid()}
	if plan.CanClone() {
		executors[plan.ChildAndHelper] = host.PID()
	}
	for by, uts := range executors {
		out, err := testkit.By(c, by).Output(context.Background())
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("hook %s <nil>\nhook %s <nil>\ngoroutine %s <nil>\ngoroutine %s <nil>\n",
			link(host.PID(), "mnt"), link(host.PID(), "uts"), link(os.Getpid(), "mnt"), link(uts, "uts")), string(out), "by %d", by)
	}
}
