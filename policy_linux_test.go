package spawn_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/testkit"
)

func TestPolicyRefusesInEveryWay(t *testing.T) {
	testkit.CheckLeaks(t)
	defer spawn.SetPolicy(forbidAll)()
	mark := filepath.Join(t.TempDir(), "mark")
	ctx := context.Background()
	c := func() *spawn.Command { return testkit.Shell(`echo ran > "$0"`).AddArg(mark) }
	for name, run := range testkit.Ways {
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
	testkit.CheckLeaks(t)
	ctx := context.Background()
	const attribute = "prctl(PR_SET_NO_NEW_PRIVS, 1"
	c := testkit.Shell("grep NoNewPrivs /proc/self/status; umask")
	restore := spawn.SetPolicy(func(c *spawn.Command) error { c.SetNoNewPrivs().SetUmask(0o27); return nil })
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

// script makes an executable file that prints its own path, and returns
// its path.
func script(t *testing.T, dir, name string) string {
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho \"$0\"\n"), 0o755))
	return path
}

func TestPolicySeesThePathThatIsExecuted(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	want := script(t, first, "prog")
	script(t, second, "prog")
	var seen string
	defer spawn.SetPolicy(func(c *spawn.Command) error {
		seen = c.Path()
		// What the caller of another goroutine might do, or the owner of
		// a directory.
		return os.Setenv("PATH", second+":/bin")
	})()
	t.Setenv("PATH", "")
	for name, run := range testkit.Ways {
		require.NoError(t, os.Setenv("PATH", first+":"+second+":/bin"))
		n := observe(t)
		_ = run(context.Background(), spawn.New("prog"))
		start, _ := requireRun(t, n, name)
		require.Equal(t, want, start.Path)
		require.Equal(t, want, seen, name)
	}
	require.NoError(t, os.Setenv("PATH", first+":"+second+":/bin"))
	out, err := spawn.New("prog").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, want+"\n", string(out))
	require.Equal(t, "prog", spawn.New("prog").Path())
}

func TestPolicySeesARelativePathFromHere(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	t.Chdir(dir)
	here, err := os.Getwd()
	require.NoError(t, err)
	script(t, filepath.Join(dir, "bin"), "prog")
	want := here + "/bin/../bin/prog"
	for _, policy := range []func(*spawn.Command){
		func(*spawn.Command) {},
		func(c *spawn.Command) { c.SetWorkingDirectory("/") },
		func(*spawn.Command) { require.NoError(t, os.Chdir("/")) },
	} {
		require.NoError(t, os.Chdir(here))
		restore := spawn.SetPolicy(func(c *spawn.Command) error {
			require.Equal(t, want, c.Path())
			policy(c)
			return nil
		})
		out, err := spawn.New("bin/../bin/prog").Output(context.Background())
		restore()
		require.NoError(t, err)
		require.Equal(t, want+"\n", string(out))
	}
}

func TestPolicyIsAskedAgainByRunReal(t *testing.T) {
	testkit.CheckLeaks(t)
	var seen []string
	defer spawn.SetPolicy(func(c *spawn.Command) error {
		seen = append(seen, c.Path())
		if strings.HasPrefix(c.Path(), "/") && strings.HasSuffix(c.Path(), "/false") {
			return errForbidden
		}
		return nil
	})()
	ctx := testkit.Dry(func(d *spawn.DryRunCall) { d.RunReal() })
	require.NoError(t, spawn.New("true").Run(ctx))
	require.Len(t, seen, 2)
	require.Equal(t, "true", seen[0])
	require.Regexp(t, "^/.*/true$", seen[1])
	require.ErrorIs(t, spawn.New("false").Run(ctx), errForbidden)
}

func TestExplainUnderAPolicyClosesNothing(t *testing.T) {
	f := testkit.TempFile(t, "")
	c := spawn.New("/bin/true")
	c.PassFDAs(f, 5, spawn.CloseParent)
	restore := spawn.SetPolicy(func(*spawn.Command) error { return nil })
	_, err := c.Explain()
	require.NoError(t, err)
	restore()
	defer spawn.SetPolicy(forbidAll)()
	_, err = c.Explain()
	require.ErrorIs(t, err, errForbidden)
	require.GreaterOrEqual(t, descriptor.Of(f), 0)
}

func init() {
	testkit.Helpers["exec-under-policy"] = func([]string) int {
		spawn.SetPolicy(func(c *spawn.Command) error { c.SetNoNewPrivs(); return nil })
		fmt.Println(spawn.New("/bin/grep", "NoNewPrivs", "/proc/self/status").InheritStdio().Exec())
		return 1
	}
}

func TestPolicySetsWhatExecRuns(t *testing.T) {
	out, err := testkit.HelperCommand(t, "exec-under-policy").Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "NoNewPrivs:\t1\n", string(out))
}
