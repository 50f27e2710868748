//go:build linux

package spawn_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn/internal/plan"
)

// documented are the packages whose documentation these tests read.
var documented = []string{".", "spawntest"}

// parsePackage parses the files of a directory, those of tests or the others,
// on whatever systems they are built.
func parsePackage(t *testing.T, dir string, tests bool) (files []*ast.File) {
	if tests {
		return parseFiles(t, filepath.Join(dir, "*_test.go"))
	}
	return parseFiles(t, filepath.Join(dir, "*.go"), "_test.go")
}

// parseFiles parses the files whose names match a pattern and have none of
// these endings.
func parseFiles(t *testing.T, pattern string, but ...string) (files []*ast.File) {
	pages(t) // or it is skipped
	names, err := filepath.Glob(pattern)
	require.NoError(t, err)
	for _, name := range names {
		if slices.ContainsFunc(but, func(end string) bool { return strings.HasSuffix(name, end) }) {
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
		for _, file := range parseFiles(t, filepath.Join(dir, "example*_test.go")) {
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
	rooms := []string{"command", "descriptor", "dry", "plan", "process", "run", "testkit", "transfer", "tree"}
	dirs := slices.Clone(documented)
	for _, room := range rooms {
		dirs = append(dirs, "internal/"+room)
	}
	for _, dir := range dirs {
		files := parsePackage(t, dir, false)
		// By one of the twins of several systems at least.
		seen := map[string]bool{}
		exported(files, func(f *ast.FuncDecl, recv string) {
			key := recv + "." + f.Name.Name
			seen[key] = seen[key] || strings.HasPrefix(f.Doc.Text(), f.Name.Name+" ")
		})
		for _, file := range files {
			for _, d := range file.Decls {
				if g, ok := d.(*ast.GenDecl); ok && slices.Contains(documented, dir) {
					for _, spec := range g.Specs {
						specDocumented(seen, g, spec)
					}
				}
			}
		}
		require.NotEmpty(t, seen)
		require.True(t, slices.ContainsFunc(files, func(f *ast.File) bool {
			return strings.HasPrefix(f.Doc.Text(), "Package "+f.Name.Name+" ")
		}), "%s has no package comment", dir)
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

// imports are those that a fragment of code need not write.
var imports = map[string]string{
	"bufio": "", "bytes": "", "context": "", "errors": "", "fmt": "", "io": "", "fs": "io/fs", "log": "", "slog": "log/slog", "net": "",
	"os": "", "exec": "os/exec", "regexp": "", "strconv": "", "strings": "", "syscall": "", "testing": "", "time": "",
	"unix": "golang.org/x/sys/unix", "capability": "github.com/syndtr/gocapability/capability",
	"spawn": "github.com/virspawn/spawn", "spawntest": "github.com/virspawn/spawn/spawntest",
}

// codeBlock is one block of Go code of a page.
type codeBlock struct {
	page     string
	line     int // of the page
	source   string
	name     string // of its page and line
	dir      string // of its package, in the module that all are in
	program  bool
	complete bool     // it has a package clause
	calls    string   // for a fragment of statements: a test that runs them
	tests    []string // names of its tests, or of the one that runs it
	// For one that is followed by a block of text: lines that it prints, in
	// this order.
	prints string
}

// codeBlocks returns all blocks of Go code of a page.
func codeBlocks(t *testing.T, p page) (all []*codeBlock) {
	var b *codeBlock
	printed := false // what follows is what the block before prints
	// Functions of the examples, which a test compares with these.
	inTable := false
	for i, line := range strings.Split(p.text, "\n") {
		switch {
		case b == nil && (line == "<table>" || line == "</table>"):
			inTable = line == "<table>"
		case inTable:
		case b == nil && strings.HasPrefix(line, "```go"):
			b = &codeBlock{page: p.name, line: i + 1}
		case b != nil && line == "```":
			b.program = strings.Contains(b.source, "\nfunc main()")
			for _, name := range regexp.MustCompile(`(?m)^func ((?:Test|Example|Benchmark)\w*)`).FindAllStringSubmatch(b.source, -1) {
				b.tests = append(b.tests, name[1])
			}
			b.complete = strings.HasPrefix(b.source, "package ")
			b.name = strings.TrimSuffix(filepath.Base(p.name), ".md") + "-line" + strconv.Itoa(b.line)
			b.dir = b.name
			switch {
			case !b.complete:
				b.dir = "fragment" // all of them together
			case b.tests != nil && !b.program && len(all) > 0:
				// The test of the program before.
				b.dir = all[len(all)-1].dir
			}
			all, b = append(all, b), nil
		case b != nil:
			b.source += line + "\n"
		case line == "```text":
			require.NotEmptyf(t, all, "%s:%d: nothing prints this", p.name, i+1)
			printed = true
		case line == "```":
			printed = false
		case printed:
			all[len(all)-1].prints += line + "\n"
		}
	}
	require.Nilf(t, b, "%s: a block without an end", p.name)
	return all
}

// file returns the block as a file: a fragment in a function, if need be, and
// with the imports that it needs.
func (b *codeBlock) file(t *testing.T) string {
	if b.complete {
		return b.source
	}
	parse := func(source string) (*ast.File, error) {
		return parser.ParseFile(token.NewFileSet(), b.page, source, parser.SkipObjectResolution)
	}
	source := b.source
	file, err := parse("package fragment\n" + source)
	if err != nil {
		name := strings.ReplaceAll(b.name, "-", "_")
		source = "func " + name + "(ctx context.Context) error {\n" + source + "return nil\n}\n"
		want := ""
		if strings.Contains(b.source, "err :=") || strings.Contains(b.source, "err =") {
			source = strings.TrimSuffix(source, "return nil\n}\n") + "return err\n}\n"
			if stated := statedError.FindStringSubmatch(b.source); stated != nil {
				want = stated[1]
			}
		}
		b.calls = fmt.Sprintf(fragmentTest, name, want)
		b.tests = []string{"Test_" + name}
		file, err = parse("package fragment\n" + source)
	}
	require.NoErrorf(t, err, "%s:%d", b.page, b.line)
	needed := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok {
				if path, ok := imports[x.Name]; ok {
					needed[cmp.Or(path, x.Name)] = true
				}
			}
		}
		return true
	})
	for _, i := range file.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		require.NoError(t, err)
		delete(needed, path)
	}
	head := "package fragment\n"
	for _, path := range slices.Sorted(maps.Keys(needed)) {
		head += "import " + strconv.Quote(path) + "\n"
	}
	return head + source
}

// statedError is what a fragment says about the error that it leaves in err:
// none, if nothing.
var statedError = regexp.MustCompile(`(?m)^err :?= .* // (spawn: .*)$`)

// fragmentTest runs statements where no program runs and all that are called
// exit with code 0.
const fragmentTest = `package fragment

import (
	"testing"

	"github.com/virspawn/spawn"
)

func Test_%[1]s(t *testing.T) {
	defer spawn.SetDryRun(func(*spawn.DryRunCall) {})() // also where the context is another one
	got := ""
	if err := %[1]s(t.Context()); err != nil {
		got = err.Error()
	}
	if want := %[2]q; got != want {
		t.Errorf("the error %%q and not %%q", got, want)
	}
}
`

// readmeModule writes all blocks as packages of a module that uses the source
// tree at hand, and returns how to call the go command there, offline.
func readmeModule(t *testing.T, all []*codeBlock) func(args ...string) ([]byte, error) {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go command")
	}
	here, err := os.Getwd()
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	// Without its own module line.
	_, requirements, ok := strings.Cut(string(mod), "\n")
	require.True(t, ok)
	write("go.mod", "module readme\n"+requirements+"\nrequire github.com/virspawn/spawn v0.0.0\n\nreplace github.com/virspawn/spawn => "+here+"\n")
	sum, err := os.ReadFile("go.sum")
	require.NoError(t, err)
	write("go.sum", string(sum))
	for _, b := range all {
		name := b.name + ".go"
		if b.tests != nil {
			name = b.name + "_test.go"
		}
		write(filepath.Join(b.dir, name), b.file(t))
		if b.calls != "" {
			write(filepath.Join(b.dir, b.name+"_calls_test.go"), b.calls)
		}
	}
	return func(args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, goCommand, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		return cmd.CombinedOutput()
	}
}

// testOutput returns what each test has printed, and which have passed.
func testOutput(events []byte) (printed map[string]string, passed map[string]bool) {
	printed, passed = map[string]string{}, map[string]bool{}
	for line := range bytes.Lines(events) {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(line, &e) == nil { // or it is the go command's own
			printed[e.Test] += e.Output
			passed[e.Test] = passed[e.Test] || e.Action == "pass"
		}
	}
	return printed, passed
}

var statedOutput = regexp.MustCompile(`(?s)\n\t// Output:\n(.*?)\n}`)

// Every block of Go code compiles and runs: programs, which print what they
// say, tests, which pass, and statements in a dry run. There is no other one.
func TestReadmeCodeRuns(t *testing.T) {
	var all []*codeBlock
	for _, p := range pages(t) {
		all = append(all, codeBlocks(t, p)...)
	}
	run := readmeModule(t, all)
	out, err := run("vet", "./...")
	require.NoErrorf(t, err, "%s", out)

	repository := t.TempDir() // for the programs that run git
	for _, args := range [][]string{{"init", "-q"}, {"-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "--allow-empty", "-m", "Brew"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = repository
		if out, err := cmd.CombinedOutput(); err != nil && !os.IsNotExist(err) {
			t.Logf("git: %v: %s", err, out)
		}
	}

	// All at once: the go command takes its time before it does anything. Vet
	// has seen the tests.
	bin := t.TempDir()
	out, err = run("build", "-ldflags=-w", "-o", bin+"/", "./...")
	require.NoErrorf(t, err, "%s", out)
	out, err = run("test", "-vet=off", "-json", "-count=1", "./...")
	printed, passed := testOutput(out)
	require.NoErrorf(t, err, "%s", strings.Join(slices.Sorted(maps.Values(printed)), ""))

	var programs, tests int
	for _, b := range all {
		t.Run(b.name, func(t *testing.T) {
			switch {
			case b.tests != nil:
				tests++
				out := ""
				for _, test := range b.tests {
					require.Truef(t, passed[test], "%s is not run", test)
					out += printed[test]
				}
				rest := out
				for line := range strings.Lines(b.prints) {
					_, after, ok := strings.Cut("\n"+rest, "\n"+line)
					require.Truef(t, ok, "%s:%d does not print %q, or not in this place:\n%s", b.page, b.line, line, out)
					rest = after
				}
			case b.program:
				programs++
				if strings.Contains(b.source, `"git"`) {
					if _, err := os.Stat(filepath.Join(repository, ".git", "logs", "HEAD")); err != nil {
						t.Skip("git cannot commit here")
					}
				}
				cmd := exec.Command(filepath.Join(bin, b.dir))
				cmd.Dir = repository
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				require.NoErrorf(t, cmd.Run(), "%s", &stderr)
				require.NotEmpty(t, stdout.String())
				if stated := statedOutput.FindStringSubmatch(b.source); stated != nil {
					want := regexp.MustCompile(`(?m)^\t// `).ReplaceAllString(stated[1], "")
					require.Equal(t, want+"\n", stdout.String())
				}
			default:
				t.Errorf("%s:%d: nothing runs this: it is no program, has no test, and is no list of statements", b.page, b.line)
			}
		})
	}
	require.GreaterOrEqual(t, programs, 5)
	require.GreaterOrEqual(t, tests, 6)
}

// The list of steps in docs/design.md has all of those that there are, in
// their order.
func TestReadmeStepsAreThoseOfTheOrderTable(t *testing.T) {
	const design = "docs/design.md"
	var listed []string
	for _, row := range regexp.MustCompile(`(?m)^\| \d+ \| (.*?) \|`).FindAllStringSubmatch(readPages(t, design)[0].text, -1) {
		listed = append(listed, row[1])
	}
	at := 0
	for _, name := range plan.Steps() {
		i := slices.Index(listed[at:], name)
		require.GreaterOrEqualf(t, i, 0, "%s has no row %q, or not in this place", design, name)
		at += i + 1
	}
}

// The README and the guides name every function and method that a user has.
func TestReadmeNamesEveryMethod(t *testing.T) {
	text := documentation(t)
	var missing []string
	exported(parsePackage(t, ".", false), func(f *ast.FuncDecl, recv string) {
		if recv != "" && recv != "Command" && recv != "Process" {
			return
		}
		if !regexp.MustCompile("[`.]" + f.Name.Name + "[`(]").MatchString(text) {
			missing = append(missing, f.Name.Name)
		}
	})
	require.Empty(t, missing, "add them to the table in README.md, or to a guide")
}

// inTable reports whether some row of a table begins with a cell in which the
// expression matches.
func inTable(text, expr string) bool {
	return regexp.MustCompile(`(?m)^\|[^|\n]*` + expr).MatchString(text)
}

// virCommands are libvirt's functions (vircommand.h, and in 2014), without the
// prefix virCommand of most.
const virCommands = `New NewArgs NewArgList NewVAList Free AddArg AddArgBuffer AddArgFormat AddArgPair AddArgSet AddArgList AddEnvFormat AddEnvPair
	AddEnvString AddEnvBuffer AddEnvPass AddEnvPassCommon AddEnvXDG AddEnvPassAllowSUID AddEnvPassBlockSUID SetWorkingDirectory SetUmask SetUID SetGID
	GetUID GetGID SetMaxMemLock SetMaxProcesses SetMaxFiles SetMaxCoreSize ClearCaps AllowCap SetSELinuxLabel SetAppArmorProfile SetRunAlone SetRunAmong
	PassFD PassFDGetFDIndex SetSendBuffer SetInputBuffer SetOutputBuffer SetErrorBuffer SetInputFD SetOutputFD SetErrorFD NonblockingFDs DoAsyncIO
	SetPreExecHook RequireHandshake HandshakeWait HandshakeNotify Daemonize SetPidFile Run RunAsync Wait Abort RawStatus Exec RunRegex RunNul
	virRun virFork ToString ToStringBuf ToStringFull WriteArgLog GetArgList SetDryRun DryRunTokenNew DryRunTokenFree`

// Who comes from virCommand or os/exec finds everything there.
func TestReadmeHasARowForAllOfVirCommandAndOSExec(t *testing.T) {
	text := documentation(t)
	for _, name := range strings.Fields(virCommands) {
		if !strings.HasPrefix(name, "vir") {
			name = "virCommand" + name
		}
		require.Truef(t, inTable(text, name+`\b`), "no row for %s", name)
	}
	cmd := reflect.TypeFor[exec.Cmd]()
	for _, f := range reflect.VisibleFields(cmd) {
		require.Truef(t, !f.IsExported() || inTable(text, "`Cmd\\."+f.Name+"`"), "no row for exec.Cmd.%s", f.Name)
	}
	for i := range reflect.PointerTo(cmd).NumMethod() {
		name := reflect.PointerTo(cmd).Method(i).Name
		require.Truef(t, inTable(text, "`Cmd\\."+name+"`"), "no row for exec.Cmd.%s", name)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[syscall.SysProcAttr]()) {
		require.Truef(t, inTable(text, `\.`+f.Name+"`"), "no row for syscall.SysProcAttr.%s", f.Name)
	}
}

// Each figure says by which benchmark it was measured.
func TestReadmeNamesBenchmarksThatThereAre(t *testing.T) {
	measured := readPages(t, "docs/performance.md")[0].text
	var there []string
	for _, dir := range []string{".", "internal/run"} {
		for _, file := range parsePackage(t, dir, true) {
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Benchmark") {
					there = append(there, strings.TrimPrefix(f.Name.Name, "Benchmark"))
				}
			}
		}
	}
	rows := regexp.MustCompile("(?m)^\\|[^|]+\\| `(\\w+)` \\|").FindAllStringSubmatch(measured, -1)
	require.Greater(t, len(rows), 10)
	for _, row := range rows {
		require.Contains(t, there, row[1])
	}
}

// The README is short, and its first two lines of commands are those that
// .ci/run runs.
func TestReadmeIsShort(t *testing.T) {
	text := readPages(t, "README.md")[0].text
	require.LessOrEqual(t, strings.Count(text, "\n"), 220)
	commands := regexp.MustCompile(`(?m)^    (go [a-z].*)$`).FindAllStringSubmatch(text, -1)
	require.Len(t, commands, 2)
	require.Equal(t, "go run ./examples/lockdown", commands[0][1])
	require.Equal(t, "go test ./...", commands[1][1])
}

// The root package is a face: what has no place in its files belongs into
// a room.
func TestTheFaceHasFewFiles(t *testing.T) {
	readPages(t, "README.md") // or the source tree is not here
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	tests, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	require.LessOrEqual(t, len(tests), 20)
	require.LessOrEqual(t, len(files)-len(tests), 20)
}

// What the pages link to is there: files, and headings in them.
func TestReadmeLinksLeadSomewhere(t *testing.T) {
	all := append(pages(t), readPages(t, "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")...)
	for _, p := range all {
		for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(p.text, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			file, heading, _ := strings.Cut(link[1], "#")
			target := p.name
			if file != "" {
				target = filepath.Join(filepath.Dir(p.name), file)
			}
			_, err := os.Stat(target)
			require.NoErrorf(t, err, "%s: %s", p.name, link[1])
			if heading != "" {
				i := slices.IndexFunc(all, func(q page) bool { return q.name == target })
				require.GreaterOrEqualf(t, i, 0, "%s: %s is no page", p.name, link[1])
				require.Containsf(t, anchors(all[i].text), heading, "%s: no heading for %s", p.name, link[1])
			}
		}
	}
}

// Every guide is linked to from the README.
func TestReadmeLinksToEveryGuide(t *testing.T) {
	all := pages(t)
	require.Greater(t, len(all), 8)
	for _, p := range all[1:] {
		require.Contains(t, all[0].text, "]("+filepath.ToSlash(p.name)+")")
	}
}

// anchors returns what leads to the headings of a page.
func anchors(text string) (all []string) {
	for _, heading := range regexp.MustCompile(`(?m)^##+ (.*)$`).FindAllStringSubmatch(text, -1) {
		all = append(all, anchor(heading[1]))
	}
	return all
}

// anchor returns what leads to a heading.
func anchor(heading string) string {
	heading = regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(heading, " ", "-")
}

// What the README and the guides have side by side is tested as a part of
// the examples.
func TestTheReadmeShowsTheCodeOfTheExamples(t *testing.T) {
	text := documentation(t)
	for _, where := range [][2]string{
		{"examples/wakealarm/main.go", "setWakeAlarm"}, {"examples/wakealarm/main_test.go", "setWakeAlarmExec"},
		{"examples/iscsiiface/main.go", "findInterface"}, {"examples/iscsiiface/main_test.go", "findInterfaceExec"},
	} {
		source, err := os.ReadFile(where[0])
		require.NoError(t, err)
		_, code, ok := strings.Cut(string(source), "\nfunc "+where[1]+"(")
		require.True(t, ok, "%s has no %s", where[0], where[1])
		code, _, _ = strings.Cut(code, "\n}\n")
		code = "\nfunc " + strings.TrimSuffix(where[1], "Exec") + "(" + code + "\n}\n"
		require.True(t, strings.Contains(text, code), "%s has other code than the documentation:\n%s", where[0], code)
	}
}

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

// room returns the name of a package of this module in the documentation, ""
// for another one.
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
	outside := func(name string) bool { return strings.HasPrefix(name, "testkit") || strings.HasPrefix(name, "vmtest") }
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

// The index in doc.go links every method of a Command and a Process, and
// every function.
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

// A comment is at most 80 columns wide, a tab counted as 4: but for what a
// directive, code, an expected output or an address needs.
func TestCommentsAreWrapped(t *testing.T) {
	pages(t) // or it is skipped
	files := 0
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		files++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		lines := strings.Split(string(source), "\n")
		for _, group := range file.Comments {
			output := false
			for _, comment := range group.List {
				line := lines[set.Position(comment.Pos()).Line-1]
				text := strings.TrimLeft(line, "\t")
				output = output || strings.HasPrefix(text, "// Output:") || strings.HasPrefix(text, "// Unordered output:")
				if output || !strings.HasPrefix(text, "// ") || strings.Contains(text, "://") {
					continue // also what stands behind code, or is code itself
				}
				width := len([]rune(text)) + 4*(len(line)-len(text))
				require.LessOrEqual(t, width, 80, "%s:%d", path, set.Position(comment.Pos()).Line)
			}
		}
		return nil
	}))
	require.Greater(t, files, 100)
}
