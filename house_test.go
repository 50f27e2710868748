//go:build linux

package spawn_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// importedPackage is what go list says of a package.
type importedPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// listed returns this module's packages as they are on a system, by their path
// below the module; the root is spawn.
func listed(t *testing.T, goos string) map[string]importedPackage {
	readPages(t, "README.md") // or the source tree is not here
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", ".", "./internal/...")
	cmd.Env = append(cmd.Environ(), "GOOS="+goos, "GOARCH=amd64", "CGO_ENABLED=0")
	out, err := cmd.Output()
	require.NoError(t, err)
	all := map[string]importedPackage{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p importedPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all[room(p.ImportPath)] = p
	}
}

// room returns the name of a package of this module in the documentation, "" for
// another one.
func room(path string) string {
	const root = "github.com/virspawn/spawn"
	if path == root {
		return "spawn"
	}
	name, _ := strings.CutPrefix(path, root+"/internal/")
	if name == path {
		return ""
	}
	return name
}

// rooms returns which packages may import which, as docs/design.md has it.
func rooms(t *testing.T) map[string][]string {
	text := readPages(t, "docs/design.md")[0].text
	rows := regexp.MustCompile("(?m)^\\| `(?:internal/)?(\\w+)`[^|]*\\|[^|]+\\| ([\\w, ]+) \\|").FindAllStringSubmatch(text, -1)
	graph := map[string][]string{"secure": {}, "nofile": {}}
	for _, row := range rows {
		graph[row[1]] = []string{}
		if row[2] != "none" {
			graph[row[1]] = strings.Split(row[2], ", ")
		}
	}
	require.Greater(t, len(graph), 10)
	return graph
}

// An arrow goes from a room to one further down only, and to those that
// docs/design.md says, on every system. The harness of the machines and what
// tests share stand outside: no room imports them, nor what only tests use.
func TestTheRoomsImportWhatTheDesignSays(t *testing.T) {
	graph := rooms(t)
	outside := func(name string) bool { return name == "testkit" || strings.HasPrefix(name, "vmtest") }
	for _, goos := range []string{"linux", "darwin", "windows"} {
		for name, p := range listed(t, goos) {
			if outside(name) {
				continue
			}
			allowed, known := graph[name]
			require.True(t, known, "docs/design.md does not have the room %s", name)
			for _, path := range p.Imports {
				if to := room(path); to != "" {
					require.Contains(t, allowed, to, "%s, on %s", name, goos)
				}
			}
			for _, path := range p.Deps {
				require.False(t, outside(room(path)), "%s needs %s", name, path)
				require.NotContains(t, path, "testify", name)
				require.NotEqual(t, "testing", path, name)
			}
		}
	}
}

// The design's own arrows run one way.
func TestTheRoomsHaveAnOrder(t *testing.T) {
	graph := rooms(t)
	var visit func(name string, above []string)
	visit = func(name string, above []string) {
		require.NotContains(t, above, name, "%v", above)
		for _, to := range graph[name] {
			require.Contains(t, graph, to, name)
			visit(to, append(slices.Clone(above), name))
		}
	}
	visit("spawn", nil)
}

// The index in doc.go links every method of a Command and a Process, and every
// function.
func TestTheIndexByTopicLinksEverything(t *testing.T) {
	text := readPages(t, "doc.go")[0].text
	_, index, ok := strings.Cut(text, "// # Index by topic\n")
	require.True(t, ok)
	index, _, ok = strings.Cut(index, "\n// # ")
	require.True(t, ok)
	links := 0
	exported(parsePackage(t, ".", false), func(f *ast.FuncDecl, receiver string) {
		name := f.Name.Name
		switch receiver {
		case "":
		case "Command", "Process":
			name = receiver + "." + name
		default:
			return
		}
		require.Contains(t, index, "["+name+"]")
		links++
	})
	require.Greater(t, links, 120)
}
