package spawn_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
)

// added returns the variables that were added to c, in order, and whether any
// call about the environment was made.
func added(t testing.TB, c *spawn.Command) ([]string, bool) {
	t.Helper()
	require.NoError(t, testkit.FirstFail(c))
	vars := []string{}
	for _, v := range testkit.Wanted(c).Env.Vars {
		vars = append(vars, v.Name+"="+v.Value.Str)
	}
	return vars, testkit.Wanted(c).Env.Set
}

func requireAdded(t *testing.T, c *spawn.Command, want ...string) {
	t.Helper()
	vars, set := added(t, c)
	require.True(t, set)
	require.Equal(t, append([]string{}, want...), vars)
}

func TestAnyEnvironmentCallEndsTheInheritance(t *testing.T) {
	testkit.Unsetenv(t, "SPAWN_UNSET")
	_, set := added(t, spawn.New("x"))
	require.False(t, set)
	for name, call := range map[string]func(*spawn.Command){
		"AddEnv":                         func(c *spawn.Command) { c.AddEnv("A", "1") },
		"AddEnvf":                        func(c *spawn.Command) { c.AddEnvf("A=%d", 1) },
		"AddEnvString":                   func(c *spawn.Command) { c.AddEnvString("A=1") },
		"AddSecretEnv":                   func(c *spawn.Command) { c.AddSecretEnv("A", "1") },
		"AddEnvPassAllowSUID of nothing": func(c *spawn.Command) { c.AddEnvPassAllowSUID() },
		"AddEnvPassAllowSUID of unset":   func(c *spawn.Command) { c.AddEnvPassAllowSUID("SPAWN_UNSET") },
		"AddEnvPassBlockSUID of unset":   func(c *spawn.Command) { c.AddEnvPassBlockSUID("SPAWN_UNSET") },
		"AddEnvPassCommon":               func(c *spawn.Command) { c.AddEnvPassCommon() },
		"AddEnvPassAll":                  func(c *spawn.Command) { c.AddEnvPassAll() },
		"AddEnvXDG":                      func(c *spawn.Command) { c.AddEnvXDG("/x") },
		"ClearEnv":                       func(c *spawn.Command) { c.ClearEnv() },
	} {
		c := spawn.New("x")
		call(c)
		_, set := added(t, c)
		require.True(t, set, name)
	}
}

func TestTheLastValueWinsAndKeepsItsPlace(t *testing.T) {
	requireAdded(t,
		spawn.New("x").AddEnv("A", "1").AddEnv("B", "2").AddEnvString("A=3").AddEnvf("C=%d", 4).AddSecretEnv("B", "5"),
		"A=3", "B=5", "C=4")
}

func TestAddEnvStringSplitsAtTheFirstEqualsSign(t *testing.T) {
	requireAdded(t, spawn.New("x").AddEnvString("A=b=c").AddEnvString("B=").AddEnvf("%s=%s", "C", "d=e"), "A=b=c", "B=", "C=d=e")
}

func TestPassedVariablesHaveTheValueOfTheCall(t *testing.T) {
	t.Setenv("SPAWN_SET", "before")
	c := spawn.New("x").AddEnvPassAllowSUID("SPAWN_SET")
	d := spawn.New("x").AddEnvPassBlockSUID("SPAWN_SET", "fallback")
	t.Setenv("SPAWN_SET", "after")
	requireAdded(t, c, "SPAWN_SET=before")
	requireAdded(t, d, "SPAWN_SET=before")
}

func TestAnEmptyVariableIsPassed(t *testing.T) {
	t.Setenv("SPAWN_EMPTY", "")
	requireAdded(t, spawn.New("x").AddEnvPassAllowSUID("SPAWN_EMPTY"), "SPAWN_EMPTY=")
	requireAdded(t, spawn.New("x").AddEnvPassBlockSUID("SPAWN_EMPTY", "fallback"), "SPAWN_EMPTY=")
}

func TestVariablesThatAreNotSetAreLeftOut(t *testing.T) {
	testkit.Unsetenv(t, "SPAWN_UNSET")
	t.Setenv("SPAWN_SET", "1")
	requireAdded(t, spawn.New("x").AddEnvPassAllowSUID("SPAWN_UNSET", "SPAWN_SET"), "SPAWN_SET=1")
	requireAdded(t, spawn.New("x").AddEnvPassBlockSUID("SPAWN_UNSET"))
	requireAdded(t, spawn.New("x").AddEnvPassBlockSUID("SPAWN_UNSET", "fallback"), "SPAWN_UNSET=fallback")
	requireAdded(t, spawn.New("x").AddEnvPassBlockSUID("SPAWN_UNSET", ""), "SPAWN_UNSET=")
	requireAdded(t, spawn.New("x").AddEnv("SPAWN_UNSET", "1").AddEnvPassAllowSUID("SPAWN_UNSET"), "SPAWN_UNSET=1")
}

func TestAddEnvPassCommonPassesWhatMostProgramsNeed(t *testing.T) {
	common := []string{"LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "HOME", "USER", "LOGNAME", "TMPDIR"}
	for _, name := range common {
		testkit.Unsetenv(t, name)
	}
	t.Setenv("SPAWN_SET", "1")
	requireAdded(t, spawn.New("x").AddEnvPassCommon(), "PATH=/bin:/usr/bin")
	var want []string
	for _, name := range common {
		t.Setenv(name, "/of/"+name)
		want = append(want, name+"=/of/"+name)
	}
	requireAdded(t, spawn.New("x").AddEnvPassCommon(), want...)
}

func TestAddEnvXDGSetsTheBaseDirectories(t *testing.T) {
	requireAdded(t, spawn.New("x").AddEnvXDG("/var/lib/x/"),
		"XDG_DATA_HOME=/var/lib/x/.local/share",
		"XDG_CACHE_HOME=/var/lib/x/.cache",
		"XDG_CONFIG_HOME=/var/lib/x/.config")
}

func TestClearEnvForgetsWhatWasAdded(t *testing.T) {
	requireAdded(t, spawn.New("x").AddEnv("A", "1").ClearEnv())
	requireAdded(t, spawn.New("x").AddEnv("A", "1").ClearEnv().AddEnv("B", "2"), "B=2")
}

func TestABadVariableIsRefusedByEveryMethodThatTakesOne(t *testing.T) {
	for want, c := range map[string]*spawn.Command{
		`spawn: AddEnv: the variable's name is empty`:                                 spawn.New("x").AddEnv("", "v"),
		`spawn: AddEnv: the variable's name "A=B" has an equals sign`:                 spawn.New("x").AddEnv("A=B", "v"),
		`spawn: AddEnv: the variable's name "A\x00" has a NUL byte`:                   spawn.New("x").AddEnv("A\x00", "v"),
		`spawn: AddEnv: the value of A "v\x00" has a NUL byte`:                        spawn.New("x").AddEnv("A", "v\x00"),
		`spawn: AddSecretEnv: the variable's name is empty`:                           spawn.New("x").AddSecretEnv("", "v"),
		`spawn: AddSecretEnv: the variable's name "A=" has an equals sign`:            spawn.New("x").AddSecretEnv("A=", "v"),
		`spawn: AddSecretEnv: the value of A has a NUL byte`:                          spawn.New("x").AddSecretEnv("A", "hush\x00"),
		`spawn: AddEnvString: "A" has no equals sign`:                                 spawn.New("x").AddEnvString("A"),
		`spawn: AddEnvString: "" has no equals sign`:                                  spawn.New("x").AddEnvString(""),
		`spawn: AddEnvString: the variable's name is empty`:                           spawn.New("x").AddEnvString("=v"),
		`spawn: AddEnvf: "A" has no equals sign`:                                      spawn.New("x").AddEnvf("%c", 'A'),
		`spawn: AddEnvf: the value of A "\x00" has a NUL byte`:                        spawn.New("x").AddEnvf("A=%c", 0),
		`spawn: AddEnvPassAllowSUID: the variable's name is empty`:                    spawn.New("x").AddEnvPassAllowSUID(""),
		`spawn: AddEnvPassAllowSUID: the variable's name "A=B" has an equals sign`:    spawn.New("x").AddEnvPassAllowSUID("A=B"),
		`spawn: AddEnvPassAllowSUID: the variable's name "A\x00" has a NUL byte`:      spawn.New("x").AddEnvPassAllowSUID("A\x00"),
		`spawn: AddEnvPassBlockSUID: the variable's name is empty`:                    spawn.New("x").AddEnvPassBlockSUID(""),
		`spawn: AddEnvPassBlockSUID: the variable's name "=" has an equals sign`:      spawn.New("x").AddEnvPassBlockSUID("=", "v"),
		`spawn: AddEnvPassBlockSUID: the value of SPAWN_UNSET "v\x00" has a NUL byte`: spawn.New("x").AddEnvPassBlockSUID("SPAWN_UNSET", "v\x00"),
		`spawn: AddEnvPassBlockSUID: 2 fallbacks for "A"; there can be one`:           spawn.New("x").AddEnvPassBlockSUID("A", "v", "w"),
		`spawn: AddEnvXDG: the directory "x" is not absolute`:                         spawn.New("x").AddEnvXDG("x"),
		`spawn: AddEnvXDG: the directory "" is not absolute`:                          spawn.New("x").AddEnvXDG(""),
	} {
		require.EqualError(t, testkit.FirstFail(c), want)
	}
	require.ErrorContains(t, testkit.FirstFail(spawn.New("x").AddEnvXDG("/a\x00b")), "has a NUL byte")
}

func TestNamesMayBeWhatAShellWouldNotTake(t *testing.T) {
	requireAdded(t, spawn.New("x").AddEnv("a-b c", "\n'\xff"), "a-b c=\n'\xff")
}

func TestSecretVariablesAreNotShown(t *testing.T) {
	c := spawn.New("x").AddSecretEnv("TOKEN", "hush").AddEnv("OPEN", "seen")
	require.Equal(t, "TOKEN=*** OPEN=seen x", c.String())
	require.Equal(t, "TOKEN=seen x", spawn.New("x").AddSecretEnv("TOKEN", "hush").AddEnv("TOKEN", "seen").String())
	require.Equal(t, "TOKEN=*** x", spawn.New("x").AddEnv("TOKEN", "seen").AddSecretEnv("TOKEN", "hush").String())
	require.NotContains(t, testkit.FirstFail(spawn.New("x").AddSecretEnv("TOKEN", "hush\x00")).Error(), "hush")
}

func TestAddEnvPassAllPassesEverythingSoThatMoreCanBeAdded(t *testing.T) {
	t.Setenv("SPAWN_ONE", "1=1")
	t.Setenv("SPAWN_TWO", "")
	c := spawn.New("x").AddEnv("SPAWN_ONE", "before").AddEnvPassAll().AddEnv("SPAWN_TWO", "after").AddEnv("SPAWN_THREE", "3")
	vars, _ := added(t, c)
	require.Equal(t, "SPAWN_ONE=1=1", vars[0])
	require.Contains(t, vars, "SPAWN_TWO=after")
	require.Equal(t, "SPAWN_THREE=3", vars[len(vars)-1])
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "SPAWN_") && strings.Contains(pair, "=") {
			require.Contains(t, vars, pair)
		}
	}
}
