package spawntest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/virspawn/spawn"
)

// report is how a call differs from what is expected. It shows no secrets: they are replaced in each text, and before that is quoted.
type report struct {
	script *Script
	call   *spawn.DryRunCall
	title  string
	head   []string
	lines  []string
	shown  bool
}

func (r *report) differs() bool { return len(r.lines) > 0 }

// add adds a difference.
func (r *report) add(format string, a ...any) {
	r.lines = append(r.lines, fmt.Sprintf(format, a...))
}

// expected shows what is expected, and the call.
func (r *report) expected(e *Expectation) {
	if !r.shown {
		r.head = append(r.head, "expected: "+r.scrubber().scrub(e.String())+e.at())
		r.called()
	}
}

// called shows the call.
func (r *report) called() {
	r.shown = true
	r.head = append(r.head, "called:   "+r.line())
}

// line returns the command line in the form of an expectation's.
func (r *report) line() string {
	var line []string
	for i, a := range words(r.call) {
		line = append(line, r.show(a, r.call.SecretArg(i)))
	}
	return strings.Join(line, " ")
}

func (r *report) show(s string, secret bool) string {
	if secret {
		return "***"
	}
	return exact(r.scrubber().scrub(s)).String()
}

// compare adds a difference unless got is as expected.
func (r *report) compare(what string, want Matcher, got string, secret bool) {
	if want.Match(got) {
		return
	}
	x := r.scrubber()
	got = x.scrub(got) // before it is quoted
	text, isText := want.(exact)
	if m, ok := want.(*recordedMatcher); ok {
		text, isText = m.exact, true
	}
	switch {
	case secret:
		r.add("%s: a secret, not as expected", what)
	case isText && (strings.Contains(string(text), "\n") || strings.Contains(got, "\n")):
		r.addText(what, x.scrub(string(text)), got)
	default:
		r.add("%s:\n  expected %s\n  got      %s", what, x.scrub(want.String()), exact(got))
	}
}

// addText adds the first line that differs.
func (r *report) addText(what, want, got string) {
	w, g := strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")
	i := 0
	for i < len(w) && i < len(g) && w[i] == g[i] {
		i++
	}
	line := func(lines []string) string {
		if i >= len(lines) || lines[i] == "" {
			return "the end"
		}
		return strconv.Quote(lines[i])
	}
	r.add("%s, line %d:\n  expected %s\n  got      %s", what, i+1, line(w), line(g))
}

// String returns the report; nothing if there is no difference.
func (r *report) String() string {
	if len(r.head) == 0 && len(r.lines) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(r.title)
	for _, s := range append(r.head, r.lines...) {
		b.WriteString("\n  " + strings.ReplaceAll(s, "\n", "\n  "))
	}
	return b.String()
}

func (r *report) scrubber() scrubber { return newScrubber(r.script.options.hidden, secretsOf(r.call)) }
