package spawntest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/virspawn/spawn"
)

// report is how a call differs from what is expected. It shows no secrets: they
// are replaced in each text, and before that is quoted. That is done when the
// test ends, because a later call may say that something is one.
type report struct {
	script *Script
	call   *spawn.DryRunCall
	title  string
	head   []line
	lines  []line
	shown  bool
}

// line is a part of a report, one line or more, without these secrets.
type line func(secrets scrubber) string

func (r *report) differs() bool { return len(r.lines) > 0 }

// isEmpty reports whether there is nothing to report.
func (r *report) isEmpty() bool { return len(r.head) == 0 && len(r.lines) == 0 }

// add adds a difference. What a program is given is among a as an exact, and
// what was expected as a Matcher.
func (r *report) add(format string, a ...any) {
	r.lines = append(r.lines, func(x scrubber) string { return fmt.Sprintf(format, x.shown(a)...) })
}

// shown returns operands for fmt, texts and matchers without secrets.
func (x scrubber) shown(operands []any) []any {
	shown := make([]any, len(operands))
	for i, v := range operands {
		switch m := v.(type) {
		case exact:
			v = exact(x.scrub(string(m))) // before it is quoted
		case *recordedMatcher:
			v = exact(x.scrub(string(m.exact)))
		case Matcher:
			v = x.scrub(m.String())
		}
		shown[i] = v
	}
	return shown
}

// words returns operands as the words of a command line.
func (x scrubber) words(operands []any) string {
	return strings.TrimSuffix(fmt.Sprintln(x.shown(operands)...), "\n")
}

// expected shows what is expected, and the call.
func (r *report) expected(e *Expectation) {
	if !r.shown {
		r.head = append(r.head, e.show)
		r.called()
	}
}

// show is the line of an expectation.
func (e *Expectation) show(x scrubber) string {
	words := make([]any, 0, len(e.argv)+1)
	for _, m := range e.argv {
		words = append(words, m)
	}
	if e.rest {
		words = append(words, Rest)
	}
	return "expected: " + x.words(words) + e.at()
}

// called shows the call, in the form of an expectation's line.
func (r *report) called() {
	r.shown = true
	var line []any
	for i, a := range words(r.call) {
		line = append(line, given(a, r.call.SecretArg(i)))
	}
	r.head = append(r.head, func(x scrubber) string { return "called:   " + x.words(line) })
}

// given returns an argument as it can be shown.
func given(s string, secret bool) any {
	if secret {
		return hiddenText
	}
	return exact(s)
}

// compare adds a difference unless got is as expected.
func (r *report) compare(what string, want Matcher, got string, secret bool) {
	if want.Match(got) {
		return
	}
	text, isText := want.(exact)
	m, isRecorded := want.(*recordedMatcher)
	if isRecorded {
		text, isText = m.exact, true
	}
	if secret {
		r.add("%s: a secret, not as expected", what)
		return
	}
	r.lines = append(r.lines, func(x scrubber) string {
		w, g := x.scrub(string(text)), x.scrub(got)
		switch {
		case isRecorded && w == g:
			return what + ": a secret is in it, which was not known yet to be one: give it to Hide"
		case isText && w == g:
			return what + ": a secret in it is not as expected"
		case isText && (strings.Contains(w, "\n") || strings.Contains(g, "\n")):
			return textDifference(what, w, g)
		}
		return fmt.Sprintf("%s:\n  expected %s\n  got      %s", append([]any{what}, x.shown([]any{want, exact(got)})...)...)
	})
}

// textDifference shows the first line that differs.
func textDifference(what, want, got string) string {
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
	return fmt.Sprintf("%s, line %d:\n  expected %s\n  got      %s", what, i+1, line(w), line(g))
}

// text returns the report without these secrets.
func (r *report) text(x scrubber) string {
	var b strings.Builder
	b.WriteString(r.title)
	for _, l := range append(r.head, r.lines...) {
		b.WriteString("\n  " + strings.ReplaceAll(l(x), "\n", "\n  "))
	}
	return b.String()
}
