package spawntest

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Matcher says which strings are as expected.
type Matcher interface {
	// Match reports whether s is.
	Match(s string) bool
	// String says what is expected, for reports.
	String() string
}

// exact matches one string.
type exact string

func (m exact) Match(s string) bool { return s == string(m) }

// String returns the string as a word, quoted where that is needed to see where
// it begins and ends.
func (m exact) String() string {
	if m != "" && !strings.ContainsFunc(string(m), func(r rune) bool { return r <= ' ' || r == '"' || r == '\'' || r == '<' || r > '~' }) {
		return string(m)
	}
	return strconv.Quote(string(m))
}

// toMatcher returns a string or a matcher as a matcher.
func toMatcher(v any) (Matcher, error) {
	switch v := v.(type) {
	case string:
		return exact(v), nil
	case restMatcher:
		return nil, errors.New("the matcher Rest comes last among arguments, and nowhere else")
	case Matcher:
		return v, nil
	}
	return nil, fmt.Errorf("%v, a %T, is neither a string nor a Matcher", v, v)
}

// match is a matcher with a description.
type match struct {
	text string
	f    func(string) bool
}

func (m match) Match(s string) bool { return m.f(s) }
func (m match) String() string      { return "<" + m.text + ">" }

// Any matches every string: one argument, for example.
var Any Matcher = match{"any", func(string) bool { return true }}

// restMatcher is the type of Rest.
type restMatcher struct{}

func (restMatcher) Match(string) bool { return true }
func (restMatcher) String() string    { return "<any more>" }

// Rest, as the last argument of [Script.Expect], matches any number of
// arguments, also none.
var Rest Matcher = restMatcher{}

// Regexp matches strings that the regular expression, of package [regexp],
// matches as a whole. It panics if that is none.
func Regexp(expr string) Matcher {
	re := regexp.MustCompile("^(?:" + expr + ")$")
	return match{"matching " + expr, re.MatchString}
}

// Prefix matches strings that begin with prefix.
func Prefix(prefix string) Matcher {
	return match{"beginning with " + strconv.Quote(prefix), func(s string) bool { return strings.HasPrefix(s, prefix) }}
}

// Contains matches strings in which part occurs.
func Contains(part string) Matcher {
	return match{"containing " + strconv.Quote(part), func(s string) bool { return strings.Contains(s, part) }}
}

// Func matches strings for which f reports true; text says in reports what
// is expected.
func Func(text string, f func(string) bool) Matcher { return match{text, f} }
