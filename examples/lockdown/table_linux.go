package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Widths in characters. All of a line fits into a terminal of the usual size.
const (
	lineWidth = 80
	nameWidth = 18
	cellWidth = 29
	gap       = "  "
)

// verdict is the colour of a cell.
type verdict int

const (
	plain verdict = iota
	good
	bad
)

// cell is what one child has of an attribute.
type cell struct {
	verdict verdict
	lines   []string // each wrapped when it is too long
}

type row struct {
	name         string
	theirs, ours cell
}

// table compares the two children.
type table struct{ rows []row }

func (t *table) add(name string, theirs, ours cell) { t.rows = append(t.rows, row{name, theirs, ours}) }

func (t *table) compare(name string, what func(*seen) cell, theirs, ours *seen) {
	t.add(name, what(theirs), what(ours))
}

func (t *table) write(w io.Writer, colours bool) {
	rule := strings.Repeat("─", nameWidth) + gap + strings.Repeat("─", cellWidth) + gap + strings.Repeat("─", cellWidth)
	fmt.Fprintf(w, "%s%s%s%s%s\n%s\n", pad("attribute", nameWidth), gap, pad("os/exec", cellWidth), gap, "spawn", rule)
	for _, r := range t.rows {
		name, theirs, ours := wrapLines([]string{r.name}, nameWidth), wrapLines(r.theirs.lines, cellWidth), wrapLines(r.ours.lines, cellWidth)
		for i := range max(len(name), len(theirs), len(ours)) {
			line := pad(at(name, i), nameWidth) + gap +
				paint(pad(at(theirs, i), cellWidth), r.theirs.verdict, colours) + gap +
				paint(at(ours, i), r.ours.verdict, colours)
			fmt.Fprintln(w, strings.TrimRight(line, " "))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

func paint(s string, v verdict, colours bool) string {
	if !colours || v == plain || s == "" {
		return s
	}
	code := map[verdict]string{good: "32", bad: "31"}[v]
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// wrapLines wraps each line at the width.
func wrapLines(lines []string, width int) (wrapped []string) {
	for _, l := range lines {
		wrapped = append(wrapped, strings.Split(wrap(l, width), "\n")...)
	}
	return wrapped
}

// wrap breaks text between words, and words that are longer than the width.
func wrap(text string, width int) string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for utf8.RuneCountInString(word) > width {
			r := []rune(word)
			lines = append(lines, string(r[:width]))
			word = string(r[width:])
		}
		line = word
	}
	return strings.Join(append(lines, line), "\n")
}

// isTerminal reports whether f is a terminal on which colours are welcome.
// (no-color.org)
func isTerminal(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
