//go:build linux

package plan_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
)

// printEnviron is a command whose program prints the environment that it got,
// with NUL bytes.
func printEnviron() *spawn.Command { return spawn.New("/bin/cat", "/proc/self/environ") }

// childEnviron runs a command made by printEnviron.
func childEnviron(t testing.TB, c *spawn.Command) []string {
	t.Helper()
	out, err := c.Output(context.Background())
	require.NoError(t, err)
	return splitEnviron(out)
}

func splitEnviron(b []byte) []string {
	env := []string{}
	for _, v := range bytes.SplitAfter(b, []byte{0}) {
		if len(v) > 0 {
			env = append(env, strings.TrimSuffix(string(v), "\x00"))
		}
	}
	return env
}

func TestAChildInheritsTheWholeEnvironmentUnlessToldOtherwise(t *testing.T) {
	testkit.CheckLeaks(t)
	t.Setenv("SPAWN_SET", "a\nb \xff")
	require.Equal(t, os.Environ(), childEnviron(t, printEnviron()))
	p := testkit.Live(t, testkit.Waiting())
	defer testkit.Stop(t, p)
	require.Equal(t, os.Environ(), splitEnviron(testkit.ReadProc(t, p.PID(), "environ")))
}

func TestAChildGetsOnlyWhatWasAdded(t *testing.T) {
	testkit.CheckLeaks(t)
	testkit.Unsetenv(t, "SPAWN_UNSET")
	t.Setenv("SPAWN_SET", "passed")
	for _, c := range []struct {
		c    *spawn.Command
		want []string
	}{
		{printEnviron().AddEnvPassAllowSUID("SPAWN_UNSET"), []string{}},
		{printEnviron().AddEnvPassBlockSUID("SPAWN_UNSET"), []string{}},
		{printEnviron().AddEnvPassAllowSUID(), []string{}},
		{printEnviron().ClearEnv(), []string{}},
		{printEnviron().AddEnv("A", "1").ClearEnv(), []string{}},
		{
			printEnviron().AddEnv("B", "1").AddEnv("A", "").AddSecretEnv("C", "hush").AddEnvPassBlockSUID("SPAWN_SET").AddEnv("B", "2"),
			[]string{"B=2", "A=", "C=hush", "SPAWN_SET=passed"},
		},
		{printEnviron().AddEnv("a-b c", "\n'\xff=x"), []string{"a-b c=\n'\xff=x"}},
		{printEnviron().AddEnvXDG("/x"), []string{"XDG_DATA_HOME=/x/.local/share", "XDG_CACHE_HOME=/x/.cache", "XDG_CONFIG_HOME=/x/.config"}},
	} {
		require.Equal(t, c.want, childEnviron(t, c.c), "%s", c.c)
		require.Equal(t, c.want, childEnviron(t, c.c), "again: %s", c.c)
	}
}

func TestALargeEnvironmentReachesTheChild(t *testing.T) {
	testkit.CheckLeaks(t)
	c := printEnviron()
	want := []string{}
	for i := range 1000 {
		name, value := fmt.Sprintf("NAME_%d", i), strings.Repeat("x", 200+i%7)
		c.AddEnv(name, value)
		want = append(want, name+"="+value)
	}
	require.Equal(t, want, childEnviron(t, c))
}

func TestSecretsAppearNowhereButInTheChild(t *testing.T) {
	testkit.CheckLeaks(t)
	c := spawn.New("/bin/sh", "-c", `test "$TOKEN" = hush && test "$1" = hush-too && exit 3`, "sh").
		AddSecretArg("hush-too").AddSecretEnv("TOKEN", "hush").AddEnv("SHOWN", "seen")
	text, err := c.Explain()
	require.NoError(t, err)
	require.Contains(t, text, `"TOKEN=***", "SHOWN=seen"`)
	require.Contains(t, text, `"sh", "***"]`)
	require.NotContains(t, text, "hush\"")
	require.Equal(t, `TOKEN=*** SHOWN=seen /bin/sh -c 'test "$TOKEN" = hush && test "$1" = hush-too && exit 3' sh ***`, c.String())

	d := spawn.New("/bin/sh", "-c", "exit 3").AddSecretArg("hush").AddSecretEnv("TOKEN", "hush")
	err = d.Run(context.Background())
	var exit *spawn.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.Status.ExitCode)
	require.NotContains(t, fmt.Sprintf("%v %+v", err, exit), "hush")

	d = spawn.New("/nonexistent").AddSecretArg("hush").AddSecretEnv("TOKEN", "hush")
	err = d.Run(context.Background())
	var start *spawn.StartError
	require.ErrorAs(t, err, &start)
	require.NotContains(t, fmt.Sprintf("%v %+v", err, start), "hush")

	require.Equal(t, 3, exitCode(t, c))
}

func exitCode(t testing.TB, c *spawn.Command) int {
	t.Helper()
	status, err := c.RunStatus(context.Background())
	require.NoError(t, err)
	return status.ExitCode
}

// modelEnv is what the environment of a command should be.
type modelEnv struct {
	parent map[string]string // this process's variables that matter
	set    bool
	bad    bool
	pairs  [][2]string
}

func (m *modelEnv) add(name, value string) {
	m.set = true
	if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
		m.bad = true
	}
	for i := range m.pairs {
		if m.pairs[i][0] == name {
			m.pairs[i][1] = value
			return
		}
	}
	m.pairs = append(m.pairs, [2]string{name, value})
}

func (m *modelEnv) addString(pair string) {
	m.set = true
	name, value, ok := strings.Cut(pair, "=")
	m.bad = m.bad || !ok
	m.add(name, value)
}

func (m *modelEnv) pass(name string, fallback ...string) {
	m.set = true
	value, ok := m.parent[name]
	switch {
	case ok:
		m.add(name, value)
	case name == "" || strings.ContainsAny(name, "=\x00"):
		m.bad = true
	case len(fallback) > 0:
		m.add(name, fallback[0])
	}
}

func (m *modelEnv) environ() []string {
	if !m.set {
		return os.Environ()
	}
	env := []string{}
	for _, p := range m.pairs {
		env = append(env, p[0]+"="+p[1])
	}
	return env
}

// FuzzEnvironment makes random calls about the environment, to a command and
// to a simple model, and compares what the child really has. Each line of the
// input is a call: a letter, a name and a value, separated by a space.
func FuzzEnvironment(f *testing.F) {
	for _, seed := range []string{
		"",
		"c",
		"u SPAWN_UNSET",
		"u SPAWN_SET\nb SPAWN_EMPTY",
		"a A 1\na B 2\na A 3",
		"a A 1\nc\na B 2",
		"s A=1\nf B=%d=2\nh C hush\na C seen",
		"b SPAWN_UNSET\nd SPAWN_UNSET fallback\nd SPAWN_SET fallback",
		"d SPAWN_UNSET one\na SPAWN_UNSET two\nu SPAWN_UNSET",
		"a  v", "a A=B v", "a A\x00 v", "a A v\x00", "s nothing", "s =v", "u A=B", "b \x00", "h A hush\x00",
		"x /base\na XDG_DATA_HOME elsewhere\nx /other",
		"a a-b \xff\xfe\ns \x01=\r",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, calls string) {
		if len(calls) > 4096 {
			t.Skip("too long")
		}
		t.Setenv("SPAWN_SET", "parent's")
		t.Setenv("SPAWN_EMPTY", "")
		testkit.Unsetenv(t, "SPAWN_UNSET")
		m := modelEnv{parent: map[string]string{}}
		for _, pair := range os.Environ() {
			name, value, _ := strings.Cut(pair, "=")
			m.parent[name] = value
		}
		c := printEnviron()
		for _, line := range strings.Split(calls, "\n") {
			call, rest, _ := strings.Cut(line, " ")
			name, value, _ := strings.Cut(rest, " ")
			switch call {
			case "a":
				c.AddEnv(name, value)
				m.add(name, value)
			case "h":
				c.AddSecretEnv(name, value)
				m.add(name, value)
			case "s":
				c.AddEnvString(rest)
				m.addString(rest)
			case "f":
				c.AddEnvf("%s", rest)
				m.addString(rest)
			case "u":
				c.AddEnvPassAllowSUID(name, value+"_")
				m.pass(name)
				m.pass(value + "_")
			case "b":
				c.AddEnvPassBlockSUID(name)
				m.pass(name)
			case "d":
				c.AddEnvPassBlockSUID(name, value)
				m.pass(name, value)
			case "x":
				c.AddEnvXDG("/xdg")
				for _, pair := range []string{"DATA_HOME=/xdg/.local/share", "CACHE_HOME=/xdg/.cache", "CONFIG_HOME=/xdg/.config"} {
					m.addString("XDG_" + pair)
				}
			case "c":
				c.ClearEnv()
				m.pairs, m.set = nil, true
			}
		}
		if m.bad {
			_, err := c.Output(context.Background())
			require.ErrorAs(t, err, new(*spawn.CallError))
			return
		}
		require.Equal(t, m.environ(), childEnviron(t, c))
	})
}
