package command

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// What is shown, in an error or a log, goes to a terminal or a line of a file.
// What others have a hand in must not become a line of its own there, nor
// something that a terminal obeys, nor be without end.

// MaxShown is how much is shown of a text, in bytes. A path has no more.
const MaxShown = 4096

// OneLine returns s fit to be shown: one line of printable text, escaped as
// in Go where it is not, without quotes. It has not much more than limit bytes;
// what is cut off leaves "...". What can be shown already stays as it is.
func OneLine(s string, limit int) string {
	if len(s) <= limit && isPrintable(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 && b.Len() < limit {
		r, n := utf8.DecodeRuneInString(s)
		if isShown(r, n) {
			b.WriteString(s[:n])
		} else {
			quoted := strconv.Quote(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	if len(s) > 0 {
		b.WriteString("...")
	}
	return b.String()
}

// isPrintable reports whether s can be shown as it is.
func isPrintable(s string) bool {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if !isShown(r, n) {
			return false
		}
		i += n
	}
	return true
}

// isShown reports whether a rune of n bytes can be shown. Controls cannot,
// nor what separates lines or turns the direction of a text, nor what is
// not UTF-8.
func isShown(r rune, n int) bool { return strconv.IsPrint(r) && (r != utf8.RuneError || n > 1) }

// quotePath quotes a path for an error.
func quotePath(path string) string {
	if len(path) > MaxShown {
		return strconv.Quote(path[:MaxShown]) + "..."
	}
	return strconv.Quote(path)
}
