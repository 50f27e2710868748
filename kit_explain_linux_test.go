package spawn

import (
	"slices"
	"strings"
)

// callNames returns the names of the system calls in a text of Explain, each run of the same one once.
func callNames(text string) (names []string) {
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, "(")
		names = append(names, name)
	}
	return slices.Compact(names)
}
