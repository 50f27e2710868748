package spawn

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPolicyRefusesInEveryWay(t *testing.T) {
	checkLeaks(t)
	defer SetPolicy(forbidAll)()
	mark := filepath.Join(t.TempDir(), "mark")
	ctx := context.Background()
	c := func() *Command { return shell(`echo ran > "$0"`).AddArg(mark) }
	for name, run := range ways {
		requireForbidden(t, run(ctx, c()), "/bin/sh", name)
	}
	_, err := c().RequireHandshake().Start(ctx)
	requireForbidden(t, err, "/bin/sh", "handshake")
	requireForbidden(t, c().Exec(), "/bin/sh", "Exec")
	_, err = c().Explain()
	requireForbidden(t, err, "/bin/sh", "Explain")
	_, err = os.Stat(mark)
	require.ErrorIs(t, err, os.ErrNotExist, "nothing ran")
}

func TestPolicySetsWhatRuns(t *testing.T) {
	checkLeaks(t)
	ctx := context.Background()
	const attribute = "prctl(PR_SET_NO_NEW_PRIVS, 1"
	c := shell("grep NoNewPrivs /proc/self/status; umask")
	restore := SetPolicy(func(c *Command) error { c.SetNoNewPrivs().SetUmask(0o27); return nil })
	text, err := c.Explain()
	require.NoError(t, err)
	require.Contains(t, text, attribute)
	out, err := c.Output(ctx)
	require.NoError(t, err)
	require.Equal(t, "NoNewPrivs:\t1\n0027\n", string(out))
	var s string
	p, err := c.Clone().SetOutputBuffer(&s).RequireHandshake().Start(ctx)
	require.NoError(t, err)
	require.NoError(t, p.HandshakeNotify())
	require.NoError(t, p.Wait())
	require.Equal(t, "NoNewPrivs:\t1\n0027\n", s)
	restore()
	text, err = c.Explain()
	require.NoError(t, err)
	require.NotContains(t, text, attribute)
}

// script makes an executable file that prints its own path, and returns its path.
func script(t *testing.T, dir, name string) string {
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho \"$0\"\n"), 0o755))
	return path
}

func TestPolicySeesThePathThatIsExecuted(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	want := script(t, first, "prog")
	script(t, second, "prog")
	var seen string
	defer SetPolicy(func(c *Command) error {
		seen = c.Path()
		// What the caller of another goroutine might do, or the owner of a directory.
		return os.Setenv("PATH", second+":/bin")
	})()
	t.Setenv("PATH", "")
	for name, run := range ways {
		require.NoError(t, os.Setenv("PATH", first+":"+second+":/bin"))
		n := observe(t)
		_ = run(context.Background(), New("prog"))
		start, _ := requireRun(t, n, name)
		require.Equal(t, want, start.Path)
		require.Equal(t, want, seen, name)
	}
	require.NoError(t, os.Setenv("PATH", first+":"+second+":/bin"))
	out, err := New("prog").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, want+"\n", string(out))
	require.Equal(t, "prog", New("prog").Path())
}

func TestPolicySeesARelativePathFromHere(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	t.Chdir(dir)
	here, err := os.Getwd()
	require.NoError(t, err)
	script(t, filepath.Join(dir, "bin"), "prog")
	want := here + "/bin/../bin/prog"
	for _, policy := range []func(*Command){
		func(*Command) {},
		func(c *Command) { c.SetWorkingDirectory("/") },
		func(*Command) { require.NoError(t, os.Chdir("/")) },
	} {
		require.NoError(t, os.Chdir(here))
		restore := SetPolicy(func(c *Command) error {
			require.Equal(t, want, c.Path())
			policy(c)
			return nil
		})
		out, err := New("bin/../bin/prog").Output(context.Background())
		restore()
		require.NoError(t, err)
		require.Equal(t, want+"\n", string(out))
	}
}

func TestPolicyIsAskedAgainByRunReal(t *testing.T) {
	checkLeaks(t)
	var seen []string
	defer SetPolicy(func(c *Command) error {
		seen = append(seen, c.Path())
		if strings.HasPrefix(c.Path(), "/") && strings.HasSuffix(c.Path(), "/false") {
			return errForbidden
		}
		return nil
	})()
	ctx := dry(func(d *DryRunCall) { d.RunReal() })
	require.NoError(t, New("true").Run(ctx))
	require.Len(t, seen, 2)
	require.Equal(t, "true", seen[0])
	require.Regexp(t, "^/.*/true$", seen[1])
	require.ErrorIs(t, New("false").Run(ctx), errForbidden)
}

func TestExplainUnderAPolicyClosesNothing(t *testing.T) {
	f := tempFile(t, "")
	c := New("/bin/true")
	c.PassFDAs(f, 5, CloseParent)
	restore := SetPolicy(func(*Command) error { return nil })
	_, err := c.Explain()
	require.NoError(t, err)
	restore()
	defer SetPolicy(forbidAll)()
	_, err = c.Explain()
	require.ErrorIs(t, err, errForbidden)
	require.GreaterOrEqual(t, fileNumber(f), 0)
}

func init() {
	helpers["exec-under-policy"] = func([]string) int {
		SetPolicy(func(c *Command) error { c.SetNoNewPrivs(); return nil })
		fmt.Println(New("/bin/grep", "NoNewPrivs", "/proc/self/status").InheritStdio().Exec())
		return 1
	}
}

func TestPolicySetsWhatExecRuns(t *testing.T) {
	out, err := helperCommand(t, "exec-under-policy").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "NoNewPrivs:\t1\n", string(out))
}
