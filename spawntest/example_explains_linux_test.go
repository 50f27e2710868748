package spawntest_test

import (
	"testing"

	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/spawntest"
)

// A service gets its limit, and no way to gain privileges.
func ExampleExpectation_Explains() {
	runTest(func(t testing.TB) {
		ctx, script := spawntest.New(t)
		script.Expect("frobnicated").
			Explains(spawntest.Contains("prctl(PR_SET_NO_NEW_PRIVS, 1)\n")).
			Explains(spawntest.Contains("RLIMIT_NOFILE, {soft=64, hard=64}"))
		if err := spawn.New("frobnicated").SetNoNewPrivs().SetMaxFiles(64).Run(ctx); err != nil {
			t.Errorf("%v", err)
		}
	})
	// Output: ok
}
