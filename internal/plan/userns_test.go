//go:build linux

package plan_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["userns-ids"] = securityHelper(checkIDsInside)
	testkit.Helpers["userns-rootless"] = securityHelper(checkRootless)
}

// containerIDs are those of a container: its root is 100000 outside.
var containerIDs = spawn.IDMap{ContainerID: 0, HostID: 100000, Size: 65536}

// startContainer starts a process in a user namespace, and opens that.
func startContainer(c *spawn.Command) (end func() error, f *os.File, err error) {
	p, err := testkit.StartLive(c)
	if err != nil {
		return nil, nil, err
	}
	f, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", p.PID()))
	return func() error { return errors.Join(f.Close(), testkit.StopLive(p)) }, f, err
}

// idsOutside returns uid, gid and groups of a program as they are here. What it
// sees itself are numbers of its own namespace.
func idsOutside(c *spawn.Command) (string, error) {
	p, err := c.PipeStdin().PipeStdout().Start(context.Background())
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	status := testkit.ParseStatus(b)
	first := func(name string) string { id, _, _ := strings.Cut(status[name], " "); return id }
	return fmt.Sprintf("%s %s [%s]", first("Uid"), first("Gid"), status["Groups"]), errors.Join(err, testkit.StopLive(p))
}

// Root has groups after a login, such as disk and shadow. In a container they
// are nobody's, and still open files of the host.
func TestNoIdOfTheHostIsLeftInAUserNamespace(t *testing.T) {
	testkit.NeedsRoot(t, "to map other ids")
	testkit.NeedsUserNamespaces(t)
	testkit.NeedsClone(t)
	runSecurityHelper(t, "userns-ids", func(c *spawn.Command) { c.SetGroups(0, 6, 42) })
}

func checkIDsInside() error {
	end, f, err := startContainer(testkit.Waiting().SetNamespaces(spawn.UserNamespace).SetUIDMap(containerIDs).SetGIDMap(containerIDs).SetUID(0).SetGID(0))
	if err != nil {
		return err
	}
	cat := func() *spawn.Command { return spawn.New("/bin/cat") }
	joined := func() *spawn.Command { return cat().JoinNamespace(spawn.UserNamespace, f) }
	fresh := func(ids spawn.IDMap) *spawn.Command {
		return cat().SetNamespaces(spawn.UserNamespace).SetUIDMap(ids).SetGIDMap(ids)
	}
	own := spawn.IDMap{ContainerID: 0, HostID: 0, Size: 10}
	errs := []error{}
	for name, x := range map[string]struct {
		c    *spawn.Command
		want string
	}{
		"joined as its root":               {joined().SetUID(0).SetGID(0), "100000 100000 []"},
		"joined as a user":                 {joined().SetUID(1).SetGID(2), "100001 100002 []"},
		"joined with groups":               {joined().SetUID(0).SetGID(0).SetGroups(0, 6, 42), "100000 100000 [100000 100006 100042]"},
		"joined without groups":            {joined().SetUID(0).SetGID(0).SetGroups(), "100000 100000 []"},
		"joined, groups kept":              {joined().SetUID(0).SetGID(0).KeepGroups(), "100000 100000 [0 6 42]"},
		"new as its root":                  {fresh(containerIDs).SetUID(0).SetGID(0), "100000 100000 []"},
		"new with groups":                  {fresh(containerIDs).SetUID(0).SetGID(0).SetGroups(0, 6, 42), "100000 100000 [100000 100006 100042]"},
		"new with own ids":                 {fresh(own), "0 0 []"},
		"new with own ids and groups":      {fresh(own).SetGroups(6), "0 0 [6]"},
		"new with own ids and groups kept": {fresh(own).KeepGroups(), "0 0 [0 6 42]"},
	} {
		got, err := idsOutside(x.c)
		if err != nil || got != x.want {
			errs = append(errs, fmt.Errorf("%s: %s, want %s; %w", name, got, x.want, err))
		}
	}
	return errors.Join(append(errs, end())...)
}

// A program that is nobody in its namespace is still the user outside that it
// was: for root's files, root.
func TestAttackByAUserNamespaceWithoutIds(t *testing.T) {
	testkit.NeedsClone(t) // a helper joins no user namespace
	testkit.NeedsRoot(t, "to be it")
	testkit.NeedsUserNamespaces(t)
	testkit.CheckLeaks(t)
	secret := t.TempDir() + "/secret"
	require.NoError(t, os.WriteFile(secret, []byte("root's"), 0o600))
	cat := exec.Command("/bin/cat", secret)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	cat.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	out, err := cat.Output()
	require.NoError(t, err)
	require.Equal(t, "root's", string(out), "os/exec")

	container := testkit.WaitingIn(t, spawn.New("/bin/cat").SetNamespaces(spawn.UserNamespace).SetUIDMap(containerIDs).SetGIDMap(containerIDs).SetUID(0).SetGID(0))
	f, err := os.Open("/proc/" + strconv.Itoa(container.PID()) + "/ns/user")
	require.NoError(t, err)
	defer f.Close()
	const joinedText = "spawn: JoinNamespace: in a user namespace that is joined the program needs ids of it, by SetUID and SetGID; 0 and 0 are its root"
	const outside = "in a user namespace without %s the program would keep this process's %s outside and have none inside; it needs %[1]s"
	const unmapped = "this process's %s 0 is in no map, so the program would keep it outside and have none inside; it needs %s"
	joined := func() *spawn.Command { return spawn.New("/bin/cat", secret).JoinNamespace(spawn.UserNamespace, f) }
	fresh := func() *spawn.Command { return spawn.New("/bin/cat", secret).SetNamespaces(spawn.UserNamespace) }
	for _, x := range []struct {
		c    *spawn.Command
		want string
	}{
		{joined(), joinedText},
		{joined().SetUID(0), joinedText},
		{joined().SetGID(0).SetGroups(), joinedText},
		{fresh(), "spawn: SetNamespaces: " + fmt.Sprintf(outside, "SetUIDMap", "uid")},
		{fresh().SetGIDMap(containerIDs).SetGID(0), "spawn: SetNamespaces: " + fmt.Sprintf(outside, "SetUIDMap", "uid")},
		{fresh().SetUIDMap(containerIDs).RequireHandshake(), "spawn: SetNamespaces: " + fmt.Sprintf(outside, "SetGIDMap", "gid")},
		{fresh().SetUIDMap(containerIDs).SetGIDMap(containerIDs), "spawn: SetUIDMap: " + fmt.Sprintf(unmapped, "uid", "SetUID")},
		{fresh().SetUIDMap(containerIDs).SetGIDMap(containerIDs).SetGID(0), "spawn: SetUIDMap: " + fmt.Sprintf(unmapped, "uid", "SetUID")},
		{fresh().SetUIDMap(spawn.IDMap{Size: 1}).SetGIDMap(containerIDs), "spawn: SetGIDMap: " + fmt.Sprintf(unmapped, "gid", "SetGID")},
		{fresh().SetUIDMap(containerIDs).SetGIDMap(containerIDs).SetUID(0), "spawn: SetUID: in a user namespace it needs SetGID"},
	} {
		_, err := x.c.Explain()
		require.EqualError(t, err, x.want)
		_, err = x.c.Start(context.Background())
		require.EqualError(t, err, x.want)
		require.ErrorAs(t, err, new(*spawn.CallError))
	}

	// With ids it is refused the file.
	for _, c := range []*spawn.Command{joined().SetUID(0).SetGID(0), fresh().SetUIDMap(containerIDs).SetGIDMap(containerIDs).SetUID(0).SetGID(0)} {
		out, err := c.CombinedOutput(context.Background())
		require.ErrorAs(t, err, new(*spawn.ExitError))
		require.Contains(t, string(out), "Permission denied")
	}
}

// Whoever maps ids at the gate, as newuidmap(1) does it, needs no maps before.
func TestIdsCanBeMappedAtTheGate(t *testing.T) {
	testkit.NeedsUserNamespaces(t)
	testkit.CheckLeaks(t)
	c := spawn.New("/bin/sh", "-c", "id -u; id -g").SetNamespaces(spawn.UserNamespace).PipeStdout()
	p := testkit.Gated(t, c)
	proc := fmt.Sprintf("/proc/%d/", p.PID())
	for _, x := range []struct{ name, text string }{
		{"uid_map", fmt.Sprintf("7 %d 1", os.Geteuid())}, {"setgroups", "deny"}, {"gid_map", fmt.Sprintf("8 %d 1", os.Getegid())},
	} {
		require.NoError(t, os.WriteFile(proc+x.name, []byte(x.text), 0))
	}
	require.NoError(t, p.HandshakeNotify())
	require.Equal(t, "7", testkit.ReadLine(t, p.Stdout()))
	require.Equal(t, "8", testkit.ReadLine(t, p.Stdout()))
	require.NoError(t, p.Wait())
	require.NoError(t, p.Stdout().Close())
}

// An ordinary user has no groups to set in a namespace of his own: the kernel
// denies that.
func TestKeepGroupsJoinsAUserNamespaceOfAnOrdinaryUser(t *testing.T) {
	testkit.NeedsUserNamespaces(t)
	testkit.NeedsClone(t)
	runSecurityHelper(t, "userns-rootless")
}

func checkRootless() error {
	if err := becomeNobody(20, testkit.Nobody); err != nil {
		return err
	}
	asRoot := func(id int) spawn.IDMap { return spawn.IDMap{ContainerID: 0, HostID: id, Size: 1} }
	end, f, err := startContainer(testkit.Waiting().SetNamespaces(spawn.UserNamespace).SetUIDMap(asRoot(os.Geteuid())).SetGIDMap(asRoot(os.Getegid())))
	if err != nil {
		return err
	}
	root := spawn.New("/bin/sh", "-c", "echo $(id -u) $(id -g)").JoinNamespace(spawn.UserNamespace, f).SetUID(0).SetGID(0)
	out, err := root.Clone().KeepGroups().Output(context.Background())
	if err == nil && string(out) != "0 0\n" {
		err = fmt.Errorf("KeepGroups: %s", out)
	}
	// Inside, the same numbers are other groups.
	if own, _ := os.Getgroups(); len(own) > 0 {
		same := testkit.InUserNamespace(spawn.New("/bin/true")).SetGroups(own...)
		op := fmt.Sprintf("setgroups(%d, [%s])", len(own), strings.Trim(strings.ReplaceAll(fmt.Sprint(own), " ", ", "), "[]"))
		err = errors.Join(err, startErrorIs(same, op, unix.EPERM))
	}
	return errors.Join(err, startErrorIs(root, "setgroups(0, [])", unix.EPERM), startErrorIs(root.Clone().SetGroups(20), "setgroups(1, [20])", unix.EPERM), end())
}
