package spawntest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
)

func TestAttributesAreComparedBySystemCalls(t *testing.T) {
	ctx, script := New(t)
	noNewPrivs := Contains("prctl(PR_SET_NO_NEW_PRIVS, 1)\n")
	limit := Regexp(`(?s).*prlimit64\(0, RLIMIT_NOFILE, .*64.*`)
	script.Expect("x").Explains(noNewPrivs).Explains(limit)
	require.NoError(t, spawn.New("x").SetNoNewPrivs().SetMaxFiles(64).Run(ctx))

	report := fake(func(tb testing.TB) {
		ctx, script := New(tb, Hide("/pin"))
		script.Expect("x", Any).Explains(noNewPrivs)
		script.Expect("x").Explains("umask(077)\n")
		_ = spawn.New("x").AddSecretArg("hush").SetUmask(0o77).SetWorkingDirectory("/pin").Run(ctx)
		_ = spawn.New("x").SetUmask(0o77).Run(ctx)
	})
	require.Contains(t, report, `spawntest: call 1 differs from what is expected
  expected: x <any>  (HERE)
  called:   x ***
  system calls: expected <containing "prctl(PR_SET_NO_NEW_PRIVS, 1)\n">, got, among others
    `)
	require.Contains(t, report, "\n    umask(077)\n")
	require.Contains(t, report, "\n    chdir(\"***\")\n")
	require.NotContains(t, report, "hush")
	require.Contains(t, report, `system calls: expected "umask(077)\n", got, among others`)
	require.NotContains(t, report, "execve(", "which has this process's environment")
	require.Less(t, strings.Count(report, "\n"), 40)
	require.PanicsWithValue(t, "spawntest: Explains: <nil>, a <nil>, is neither a string nor a Matcher", func() { (&Expectation{}).Explains(nil) })
}
