package spawntest

import (
	"slices"
	"strings"

	"github.com/virspawn/spawn"
)

// hiddenText stands for a secret.
const hiddenText = "***"

// secretsOf returns what a call must not show.
func secretsOf(call *spawn.DryRunCall) (secrets []string) {
	for i, a := range call.Args {
		if call.SecretArg(i) {
			secrets = append(secrets, a)
		}
	}
	for i, pair := range call.Env {
		if call.SecretEnv(i) {
			_, value, _ := strings.Cut(pair, "=")
			secrets = append(secrets, value)
		}
	}
	for _, b := range call.Buffers {
		secrets = append(secrets, string(b), strings.TrimSpace(string(b)))
	}
	return secrets
}

// newScrubber returns what replaces secrets by ***, the longest first where one
// is part of another.
func newScrubber(lists ...[]string) scrubber {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// scrubber is the secrets.
type scrubber []string

func (x scrubber) scrub(s string) string {
	for _, secret := range x {
		s = strings.ReplaceAll(s, secret, hiddenText)
	}
	return s
}
