// Package testkit is what tests of several rooms share: programs to run, what
// a machine must have for a test, and looks at what the library has left behind
// or keeps to itself.
//
// Only tests import it.
package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/helper"
	"github.com/virspawn/spawn/internal/secure"
	// does what a variable asks for
	_ "github.com/virspawn/spawn/internal/testkit/early"
)

// Helpers are small programs that tests run: this test binary with an argument
// that names one. A file of tests registers those that it needs in its init.
var Helpers = map[string]func(args []string) int{}

// HelperPrefix begins the argument that names a helper.
const HelperPrefix = "helper:"

// Self returns the path of this test binary.
func Self(t testing.TB) string {
	path, err := filepath.Abs(os.Args[0])
	require.NoError(t, err)
	return path
}

// HelperCommand returns a command that runs a registered helper.
func HelperCommand(t testing.TB, name string, args ...string) *spawn.Command {
	require.Contains(t, Helpers, name)
	return spawn.New(Self(t), append([]string{HelperPrefix + name}, args...)...)
}

// Eventually waits until ok reports true. What it waits for happens without
// further events that a test could wait for.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		runtime.Gosched()
	}
}

// Main runs the tests of a package, or a registered helper. It does not return.
func Main(m *testing.M) {
	if slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, helper.Name+":") }) {
		fmt.Println("main was reached")
		if os.Args[0] == helper.Name && !secure.Mode() {
			// A test of a hook that is not registered. What should end this
			// process does so long before.
			time.Sleep(60 * time.Millisecond)
			fmt.Println("main went on")
			select {}
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], HelperPrefix) {
		name := strings.TrimPrefix(os.Args[1], HelperPrefix)
		helper, ok := Helpers[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "no helper", name)
			os.Exit(126)
		}
		os.Exit(helper(os.Args[2:]))
	}
	os.Exit(m.Run())
}
