//go:build linux

package spawn_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
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
	dir      string // of its package, in the module that all are in
	program  bool
	test     bool
	complete bool   // it has a package clause
	calls    string // for a fragment of statements: a test that runs them
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
			b.test = regexp.MustCompile(`(?m)^func (Test|Example|Benchmark)`).MatchString(b.source)
			b.complete = strings.HasPrefix(b.source, "package ")
			b.dir = strings.TrimSuffix(filepath.Base(p.name), ".md") + "-line" + strconv.Itoa(b.line)
			if b.complete && b.test && !b.program && len(all) > 0 {
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
		source = "func fragment(ctx context.Context) error {\n" + source + "return nil\n}\n"
		want := ""
		if strings.Contains(b.source, "err :=") || strings.Contains(b.source, "err =") {
			source = strings.TrimSuffix(source, "return nil\n}\n") + "return err\n}\n"
			if stated := statedError.FindStringSubmatch(b.source); stated != nil {
				want = stated[1]
			}
		}
		b.calls = fmt.Sprintf(fragmentTest, want)
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

func TestFragment(t *testing.T) {
	defer spawn.SetDryRun(func(*spawn.DryRunCall) {})() // also where the context is another one
	got := ""
	if err := fragment(t.Context()); err != nil {
		got = err.Error()
	}
	if want := %q; got != want {
		t.Errorf("the error %%q and not %%q", got, want)
	}
}
`

// readmeModule writes all blocks as packages of a module that uses the source
// tree at hand, and returns its directory and how to call the go command
// there, offline.
func readmeModule(t *testing.T, all []*codeBlock) (string, func(args ...string) ([]byte, error)) {
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
		name := "main.go"
		if b.test {
			name = "main_test.go"
		}
		write(filepath.Join(b.dir, name), b.file(t))
		if b.calls != "" {
			write(filepath.Join(b.dir, "fragment_test.go"), b.calls)
		}
	}
	return dir, func(args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, goCommand, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		return cmd.CombinedOutput()
	}
}

var statedOutput = regexp.MustCompile(`(?s)\n\t// Output:\n(.*?)\n}`)

// Every block of Go code compiles and runs: programs, which print what they
// say, tests, which pass, and statements in a dry run. There is no other one.
func TestReadmeCodeRuns(t *testing.T) {
	var all []*codeBlock
	for _, p := range pages(t) {
		all = append(all, codeBlocks(t, p)...)
	}
	dir, run := readmeModule(t, all)
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

	var programs, tests int
	for _, b := range all {
		t.Run(b.dir, func(t *testing.T) {
			switch {
			case b.test || b.calls != "":
				tests++
				// Vet has seen it.
				out, err := run("test", "-vet=off", "-v", "-count=1", "./"+b.dir)
				require.NoErrorf(t, err, "%s", out)
				require.Contains(t, string(out), "ok ")
				rest := string(out)
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
				exe := filepath.Join(dir, b.dir, "program")
				out, err := run("build", "-ldflags=-w", "-o", exe, "./"+b.dir)
				require.NoErrorf(t, err, "%s", out)
				cmd := exec.Command(exe)
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
