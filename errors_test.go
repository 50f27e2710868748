package spawn_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
)

func TestLastLineIsFitToBeShown(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"\n \t\r\n":               "",
		"one":                     "one",
		"one\n":                   "one",
		"one\ntwo":                "two",
		"one\n  two \r\n\n \t \n": "two",
		"\n\none\n\n":             "one",
		"a\x00b\n":                `a\x00b`,
		"\x1b[31mred\a\xff\ttab":  `\x1b[31mred\a\xff\ttab`,
		`"C:\"` + " é \ufffd\n":   `"C:\"` + " é \ufffd",
		strings.Repeat("x", 512):  strings.Repeat("x", 512),
		strings.Repeat("x", 513):  strings.Repeat("x", 512) + "...",
	} {
		require.Equal(t, want, spawn.LastLine([]byte(text)), "%q", text)
	}
}

// TestTheEnvironmentIsShownByStringOnly: what was passed on may hold what is
// nobody else's business, without being marked as a secret.
func TestTheEnvironmentIsShownByStringOnly(t *testing.T) {
	c := spawn.New("prog", "a b").AddEnv("NAME", "value").AddSecretEnv("TOKEN", "hidden").AddSecretArg("hidden")
	require.Equal(t, "NAME=value TOKEN=*** prog 'a b' ***", c.String())
	err := c.Run(spawn.WithDryRun(t.Context(), func(call *spawn.DryRunCall) {
		require.Equal(t, c.String(), call.String())
		call.ExitCode = 1
	}))
	require.EqualError(t, err, "spawn: prog 'a b' ***: exit status 1")
}
