package spawn_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// page is a page of the documentation.
type page struct{ name, text string }

// pages returns the README and the guides. Tests that are run elsewhere than in
// the source tree are skipped.
func pages(t *testing.T) []page {
	names, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	return readPages(t, append([]string{"README.md"}, names...)...)
}

// readPages returns these pages.
func readPages(t *testing.T, names ...string) (all []page) {
	if _, err := os.Stat("README.md"); os.IsNotExist(err) {
		t.Skip("the source tree is not here")
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		all = append(all, page{name, string(text)})
	}
	return all
}

// documentation returns the text of all pages.
func documentation(t *testing.T) string {
	var b strings.Builder
	for _, p := range pages(t) {
		b.WriteString(p.text + "\n")
	}
	return b.String()
}
