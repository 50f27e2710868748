//go:build linux

package spawn_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// documented are the packages whose documentation these tests read.
var documented = []string{".", "spawntest"}

// parsePackage parses the files of a directory, those of tests or the others,
// on whatever systems they are built.
func parsePackage(t *testing.T, dir string, tests bool) (files []*ast.File) {
	pages(t) // or it is skipped
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") != tests {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, file)
	}
	require.NotEmpty(t, files)
	return files
}

// receiver returns the name of the type whose method f is; empty for
// a function.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	recv := f.Recv.List[0].Type
	if star, ok := recv.(*ast.StarExpr); ok {
		recv = star.X
	}
	if id, ok := recv.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// exported calls f for each function and method that a user can call.
func exported(files []*ast.File, do func(f *ast.FuncDecl, receiver string)) {
	for _, file := range files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !f.Name.IsExported() {
				continue
			}
			if recv := receiver(f); recv == "" || ast.IsExported(recv) {
				do(f, recv)
			}
		}
	}
}

// Whoever looks something up finds it in use: each method of Command has an
// example of its own name, and all else is called in some example.
func TestEveryFeatureHasAnExample(t *testing.T) {
	for _, dir := range documented {
		own, used := map[string]bool{}, map[string]bool{}
		for _, file := range parsePackage(t, dir, true) {
			if !strings.HasSuffix(file.Name.Name, "_test") {
				continue
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					own[n.Name.Name] = true
				case *ast.SelectorExpr:
					used[n.Sel.Name] = true
				}
				return true
			})
		}
		require.NotEmpty(t, used)
		var missing []string
		exported(parsePackage(t, dir, false), func(f *ast.FuncDecl, recv string) {
			name := f.Name.Name
			switch {
			case name == "Error" || name == "Unwrap" || name == "String":
			case recv == "Command" && !own["ExampleCommand_"+name]:
				missing = append(missing, "ExampleCommand_"+name)
			case !used[name]:
				missing = append(missing, recv+"."+name)
			}
		})
		require.Empty(t, missing, dir)
	}
}

// go doc has something to say about each name.
func TestEveryExportedNameIsDocumented(t *testing.T) {
	for _, dir := range documented {
		files := parsePackage(t, dir, false)
		// By one of the twins of several systems at least.
		seen := map[string]bool{}
		exported(files, func(f *ast.FuncDecl, recv string) {
			key := recv + "." + f.Name.Name
			seen[key] = seen[key] || strings.HasPrefix(f.Doc.Text(), f.Name.Name+" ")
		})
		for _, file := range files {
			for _, d := range file.Decls {
				if g, ok := d.(*ast.GenDecl); ok {
					for _, spec := range g.Specs {
						specDocumented(seen, g, spec)
					}
				}
			}
		}
		require.Greater(t, len(seen), 20)
		maps.DeleteFunc(seen, func(_ string, ok bool) bool { return ok })
		require.Empty(t, slices.Sorted(maps.Keys(seen)), "in %s: no comment, or one that does not begin with the name", dir)
	}
}

// specDocumented notes the names of a declaration, and whether they have
// a comment: of their own, beside them, or, for values, above the group.
func specDocumented(seen map[string]bool, g *ast.GenDecl, spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, id := range spec.Names {
			if id.IsExported() {
				seen[id.Name] = spec.Doc != nil || spec.Comment != nil || g.Doc != nil
			}
		}
	case *ast.TypeSpec:
		if !spec.Name.IsExported() {
			return
		}
		doc := spec.Doc
		if doc == nil {
			doc = g.Doc
		}
		seen[spec.Name.Name] = strings.HasPrefix(doc.Text(), spec.Name.Name+" ")
		ast.Inspect(spec.Type, func(n ast.Node) bool {
			fields, ok := n.(*ast.FieldList)
			if !ok {
				return true
			}
			for _, f := range fields.List {
				for _, id := range f.Names {
					if id.IsExported() {
						seen[spec.Name.Name+"."+id.Name] = f.Doc != nil || f.Comment != nil
					}
				}
			}
			return false
		})
	}
}
