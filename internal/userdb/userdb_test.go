//go:build linux

package userdb_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
	"github.com/virspawn/spawn/internal/userdb"
)

func TestTheFilesGiveWhatTheySay(t *testing.T) {
	dir := t.TempDir()
	passwd, group := dir+"/passwd", dir+"/group"
	require.NoError(t, os.WriteFile(passwd, []byte(`root:x:0:0:root:/root:/bin/sh
bob:x:1000:100:Bob, of "Sales":/home/bob:/bin/sh
bob:x:1:1:a second one:/:/bin/sh
1000:x:2000:200::/:/bin/sh
+nis:x:5:5::/:/bin/sh
#gone:x:6:6::/:/bin/sh
short:x:7:7:/:/bin/sh
:x:8:8::/:/bin/sh
sign:x:-9:9::/:/bin/sh
nogid:x:10:many::/:/bin/sh
last:x:4294967294:11::/:`), 0o644))
	require.NoError(t, os.WriteFile(group, []byte(`root:x:0:
sales:x:300:alice,bob
bobs:x:100:bob
all:x:50:bob
near:x:51:bobby,rob
twice:x:50:bob
`), 0o644))
	for name, want := range map[string]userdb.User{
		"root": {UID: 0, GID: 0, Groups: []int{0}},
		"bob":  {UID: 1000, GID: 100, Groups: []int{50, 100, 300}},
		// a name before a number
		"1000": {UID: 2000, GID: 200, Groups: []int{200}},
		"1":    {UID: 1, GID: 1, Groups: []int{1, 50, 100, 300}},
	} {
		got, err := userdb.LookupIn(passwd, group, name)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
	for _, name := range []string{"", "alice", "nis", "+nis", "#gone", "short", "sign", "-9", "01000", "+1000", "3000", "bob:x", "BOB"} {
		_, err := userdb.LookupIn(passwd, group, name)
		require.ErrorIs(t, err, user.UnknownUserError(name), name)
	}
	_, err := userdb.LookupIn(passwd, group, "nogid")
	require.ErrorContains(t, err, "the gid of nogid")

	// A container without files, or with one of them.
	missing := dir + "/missing"
	_, err = userdb.LookupIn(missing, group, "bob")
	require.ErrorIs(t, err, user.UnknownUserError("bob"))
	got, err := userdb.LookupIn(passwd, missing, "bob")
	require.NoError(t, err)
	require.Equal(t, userdb.User{UID: 1000, GID: 100, Groups: []int{100}}, got)
	_, err = userdb.LookupIn(dir, group, "bob")
	require.Error(t, err)
	require.False(t, errors.As(err, new(user.UnknownUserError)), "what cannot be read is not empty")
}

func TestUsersAreTheSameByTheFilesAndByTheSystem(t *testing.T) {
	if _, err := os.Stat("/etc/passwd"); errors.Is(err, fs.ErrNotExist) {
		t.Skip("needs /etc/passwd")
	}
	for _, name := range []string{"root", "0", "nobody"} {
		want, err := userdb.LookupIn("/etc/passwd", "/etc/group", name)
		require.NoError(t, err)
		got, err := userdb.Lookup(name)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// In a container whose root has no entry in /etc/passwd, a program built
// without cgo is told to become nobody.
func TestAttackByUSER(t *testing.T) {
	testkit.NeedsRoot(t, "to mount another /etc/passwd, and to change ids")
	const source = "testdata/setuser"
	goTool, err := exec.LookPath("go")
	if _, missing := os.Stat(source); err != nil || missing != nil {
		t.Skip("needs the go command, and the source of this package: ", err, missing)
	}
	if mod, _ := exec.Command(goTool, "env", "GOMOD").Output(); strings.TrimSpace(string(mod)) == os.DevNull {
		t.Skip("needs the source of this module")
	}
	dir := t.TempDir()
	program, passwd := filepath.Join(dir, "setuser"), filepath.Join(dir, "passwd")
	build := exec.Command(goTool, "build", "-o", program, "./"+source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.WriteFile(passwd, []byte("nobody:x:65534:65534:::\n"), 0o644))
	for user, want := range map[string]string{
		"nobody": "os/user: 0\nuid=65534 gid=65534 groups=65534 <nil>\n",
		"":       "os/user: 65534\nuid=65534 gid=65534 groups=65534 <nil>\n",
	} {
		out, err := testkit.Shell(`mount --bind "$1" /etc/passwd && mount --bind /dev/null /etc/group && exec "$2"`, passwd, program).
			SetNamespaces(spawn.MountNamespace).ClearEnv().AddEnv("USER", user).AddEnv("HOME", "/").CombinedOutput(context.Background())
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, string(out))
	}
}
