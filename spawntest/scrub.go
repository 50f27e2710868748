package spawntest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
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
	var all []string
	for _, secret := range slices.Concat(lists...) {
		all = append(all, forms(secret)...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	slices.SortStableFunc(all, func(a, b string) int { return len(b) - len(a) })
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// minPart is how long a part of a secret must be to be hidden by itself,
// in bytes: a shorter one, such as the 1 of --color=1, occurs everywhere.
const minPart = 4

// forms returns in what a secret is seen: itself, its lines, what these have
// behind an equals sign, and all that as others would quote it.
func forms(secret string) []string {
	all := []string{secret}
	add := func(part string) {
		if len(part) < minPart {
			return
		}
		all = append(all, part)
		all = append(all, quotations(part)...)
	}
	add(secret)
	for line := range strings.Lines(secret) {
		line = strings.TrimSpace(line)
		add(line)
		if _, value, ok := strings.Cut(line, "="); ok {
			add(strings.Trim(value, "\"' \t"))
		}
	}
	return all
}

// quotations returns s as it stands in a Go string, in JSON, in a shell's
// word, in an URL, and in base64, without quotes around it.
func quotations(s string) []string {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string
	escaped, _ := json.Marshal(s)
	inside := func(quoted string) string { return quoted[1 : len(quoted)-1] }
	shell := strings.TrimPrefix(spawn.New("x", s).String(), "x ")
	return []string{
		inside(strconv.Quote(s)), inside(strconv.QuoteToASCII(s)),
		inside(strings.TrimSpace(text.String())), inside(string(escaped)),
		strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(shell, "$"), "'"), "'"),
		url.QueryEscape(s), url.PathEscape(s), (&url.URL{Path: s}).EscapedPath(),
		// What follows of it, if anything, are equals signs.
		base64.RawStdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)),
	}
}

// scrubber is the secrets.
type scrubber []string

func (x scrubber) scrub(s string) string {
	for _, secret := range x {
		s = strings.ReplaceAll(s, secret, hiddenText)
	}
	return s
}
