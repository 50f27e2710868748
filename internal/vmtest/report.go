package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// maxLines is how much of one failure is printed.
const maxLines = 80

// summary is what the output of one test binary says.
type summary struct {
	passed, failed int
	skips          []string // "TestName: reason"
	failure        string   // what the tests that did not pass wrote
	ok             bool     // the binary said that it passed
}

// testEvent is one line of test2json.
type testEvent struct {
	Action, Test, Output string
}

// summarize interprets what a test binary wrote under -test.v=test2json.
func summarize(ctx context.Context, output []byte) (*summary, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json", "-t")
	cmd.Stdin = bytes.NewReader(output)
	converted, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool test2json: %w", err)
	}
	return parseEvents(bytes.NewReader(converted))
}

// parseEvents reads what test2json prints.
func parseEvents(r io.Reader) (*summary, error) {
	var events []testEvent
	for in := json.NewDecoder(r); ; {
		var e testEvent
		err := in.Decode(&e)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("test2json: %w", err)
		}
		events = append(events, e)
	}

	s := &summary{}
	wrote := map[string][]string{} // what a test logged
	// False for a test that failed or never ended.
	ended := map[string]bool{}
	for _, e := range events {
		switch {
		case e.Action == "output" && !isFrame(e.Output):
			wrote[e.Test] = append(wrote[e.Test], e.Output)
		case e.Test == "" && e.Action == "pass":
			s.ok = true
		case e.Test == "":
		case e.Action == "run":
			ended[e.Test] = false
		case e.Action == "pass":
			s.passed++
			ended[e.Test] = true
		case e.Action == "skip":
			s.skips = append(s.skips, e.Test+": "+oneLine(strings.Join(wrote[e.Test], "")))
			ended[e.Test] = true
		}
	}
	s.failed = len(ended) - s.passed - len(s.skips)
	// What stands outside of every test may be the only trace of a crash.
	var failure strings.Builder
	for _, e := range events {
		outside := e.Test == "" && !isFrame(e.Output)
		if e.Action == "output" && (outside || e.Test != "" && !ended[e.Test]) {
			failure.WriteString(e.Output)
		}
	}
	s.failure = failure.String()
	return s, nil
}

// isFrame reports whether a line comes from package testing, not from a test.
func isFrame(line string) bool {
	line = strings.TrimLeft(line, " ")
	return strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ")
}

// oneLine joins the lines of a text.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// clip leaves out the middle of a long text.
func clip(text string, limit int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) <= limit {
		return strings.Join(lines, "\n")
	}
	head := limit * 2 / 3
	tail := len(lines) - (limit - head)
	left := fmt.Sprintf("[%d lines left out: -keep keeps all]", tail-head)
	return strings.Join(append(append(lines[:head:head], left), lines[tail:]...), "\n")
}

// indent puts a text below the line that it belongs to.
func indent(text string) string {
	if text == "" {
		return ""
	}
	return "        " + strings.ReplaceAll(text, "\n", "\n        ") + "\n"
}

// reporter prints results as they come and counts them.
type reporter struct {
	mu                      sync.Mutex
	out                     io.Writer
	passed, failed, skipped int
	// Printed again at the end: what comes between them is long.
	failures strings.Builder
}

// result is one line of the report.
type result struct {
	machine, pkg, user string
	elapsed            time.Duration
	summary            summary
	// problem tells why the run failed when it is not empty.
	problem string
	// started is false for a run that the machine never came to.
	started bool
}

// String is all that is printed of a result as it comes.
func (r *result) String() string {
	line := r.line()
	for _, skip := range r.summary.skips {
		line += indent("skip " + skip)
	}
	return line + r.failure()
}

// failure is what the tests that failed wrote, to stand below the line.
func (r *result) failure() string {
	if !r.started || r.problem == "" {
		return ""
	}
	return indent(clip(r.summary.failure, maxLines))
}

// line tells in short how the run ended.
func (r *result) line() string {
	counts := fmt.Sprintf("%d passed", r.summary.passed)
	if n := r.summary.failed; n > 0 {
		counts += fmt.Sprintf(", %d failed", n)
	}
	if n := len(r.summary.skips); n > 0 {
		counts += fmt.Sprintf(", %d skipped", n)
	}
	status := "ok"
	switch {
	case !r.started:
		status, counts = "not run", r.problem
	case r.problem != "":
		status, counts = "FAIL", counts+"; "+r.problem
	}
	return fmt.Sprintf("%-7s kernel %s  %s  %-6s  %5.1fs  (%s)\n",
		status, r.machine, r.pkg, r.user, r.elapsed.Seconds(), counts)
}

func (r *reporter) add(res *result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passed += res.summary.passed
	r.skipped += len(res.summary.skips)
	if res.problem != "" {
		r.failed += max(1, res.summary.failed)
		r.failures.WriteString(res.line() + res.failure())
	}
	fmt.Fprint(r.out, res)
}

// fail reports what belongs to no single run.
func (r *reporter) fail(what, details string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed++
	text := fmt.Sprintf("FAIL    %s\n%s", what, indent(clip(strings.TrimSpace(details), maxLines)))
	r.failures.WriteString(text)
	fmt.Fprint(r.out, text)
}

// close prints the last line and reports whether everything passed.
func (r *reporter) close() bool {
	if r.passed+r.failed+r.skipped == 0 {
		// A pattern that matches nothing must not look fine.
		r.fail("no test was run", "")
	}
	if r.failed > 0 {
		fmt.Fprintf(r.out, "\nOnce more what failed:\n%s", &r.failures)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return r.failed == 0
}
