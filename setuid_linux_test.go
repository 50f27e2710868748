package spawn

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["setuid-env"] = printEnvironments
}

// printEnvironments prints the environments that children of this process get.
func printEnvironments([]string) int {
	fmt.Println("secure:", secureMode())
	env := New("/usr/bin/env") // whose /proc/self may be closed to it
	for _, c := range []*Command{
		env.Clone().AddEnvPassCommon(),
		env.Clone().AddEnvPassBlockSUID("SPAWN_SET"),
		env.Clone().AddEnvPassBlockSUID("SPAWN_SET", "fallback"),
		env.Clone().AddEnvPassAllowSUID("SPAWN_SET"),
		env.Clone().AddEnvPassAllowSUID("SPAWN_SET").AddEnvPassBlockSUID("SPAWN_SET"),
	} {
		out, err := c.Output(context.Background())
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Printf("%q\n", strings.Split(strings.TrimSpace(string(out)), "\n"))
	}
	return 0
}

const passedEnvironments = `secure: false
["PATH=/of/caller" "HOME=/of/caller" "USER=caller" "LOGNAME=caller" "TMPDIR=/of/caller"]
["SPAWN_SET=caller"]
["SPAWN_SET=caller"]
["SPAWN_SET=caller"]
["SPAWN_SET=caller"]
`

const blockedEnvironments = `secure: true
["PATH=/bin:/usr/bin" "USER=caller" "LOGNAME=caller"]
[""]
["SPAWN_SET=fallback"]
["SPAWN_SET=caller"]
["SPAWN_SET=caller"]
`

func TestTheEnvironmentOfAPrivilegedProgramIsNotItsCallers(t *testing.T) {
	checkLeaks(t)
	needRoot(t, "to make a setuid program")
	own, err := status(catStatus())
	require.NoError(t, err)
	if own["NoNewPrivs"] == "1" {
		t.Skip("no_new_privs is set: no program gets privileges here")
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	program := copySelf(t)
	for _, x := range []struct {
		name string
		mode uint32
		cap  bool
		want string
	}{
		{"ordinary", 0o755, false, passedEnvironments},
		{"setuid", 0o4755, false, blockedEnvironments},
		{"setgid", 0o2755, false, blockedEnvironments},
		{"file capability", 0o755, true, blockedEnvironments},
	} {
		t.Run(x.name, func(t *testing.T) {
			require.NoError(t, unix.Chmod(program, x.mode))
			if x.cap {
				setFileCapability(t, program, unix.CAP_NET_BIND_SERVICE)
			}
			c := New(program, helperPrefix+"setuid-env").SetUID(nobody).SetGID(nobody).AddEnvPassAllowSUID("GORACE").
				AddEnv("SPAWN_SET", "caller").AddEnv("USER", "caller").AddEnv("LOGNAME", "caller").
				AddEnv("PATH", "/of/caller").AddEnv("HOME", "/of/caller").AddEnv("TMPDIR", "/of/caller")
			out, err := c.Output(context.Background())
			require.NoError(t, err, "%s", out)
			require.Equal(t, x.want, string(out))
		})
	}
}

// copySelf copies this test binary, as root's, to where every user can run it and a setuid bit counts.
func copySelf(t *testing.T) string {
	dir, err := os.MkdirTemp("", "spawn")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	var fs unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &fs))
	if fs.Flags&unix.ST_NOSUID != 0 {
		t.Skipf("%s is mounted nosuid", dir)
	}
	if err := New("/bin/true").SetUID(nobody).SetGID(nobody).SetWorkingDirectory(dir).Run(context.Background()); err != nil {
		t.Skipf("other users cannot enter %s: %v", dir, err)
	}
	from, err := os.Open(self(t))
	require.NoError(t, err)
	defer from.Close()
	to, err := os.Create(filepath.Join(dir, "program"))
	require.NoError(t, err)
	defer to.Close()
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	return to.Name()
}

// setFileCapability gives a program a permitted and effective capability. (struct vfs_cap_data in capabilities(7))
func setFileCapability(t *testing.T, path string, n uint) {
	const revision2, effective = 0x02000000, 1
	b := binary.LittleEndian.AppendUint32(nil, revision2|effective)
	b = binary.LittleEndian.AppendUint32(b, 1<<n) // permitted; n is below 32
	b = append(b, make([]byte, 12)...)
	err := unix.Setxattr(path, "security.capability", b, 0)
	if err == unix.ENOTSUP {
		t.Skip("the file system has no file capabilities")
	}
	require.NoError(t, err)
}
