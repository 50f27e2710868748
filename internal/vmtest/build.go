package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// harness is where this command lives in the module: tests of its own say
// nothing about a kernel.
const harness = "./internal/vmtest"

// testBinary is a package's compiled tests.
type testBinary struct {
	pkg  string // relative to the module, as in ./internal/child
	dir  string // of the sources
	path string
	err  error // why it could not be built
}

// toolchain runs the go command for one architecture of the guests.
type toolchain struct {
	module string // the folder of the module to test
	arch   string
	out    string // the folder for what is built
}

func (t *toolchain) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+t.arch, "CGO_ENABLED=0", "PWD="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("go %s (linux/%s): %w\n%s", args[0], t.arch, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}

// buildGuest builds the guest's /init.
func (t *toolchain) buildGuest(ctx context.Context) (string, error) {
	path := filepath.Join(t.out, "init")
	_, err := t.run(ctx, "", "build", "-ldflags=-w", "-o", path, "./internal/vmtest/guest")
	return path, err
}

// buildTests builds the tests of every package that has some. A package that
// does not compile is returned with its error.
func (t *toolchain) buildTests(ctx context.Context, patterns []string) ([]testBinary, error) {
	binaries, err := t.listTests(ctx, patterns)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	// Linking is what takes long, with one thread.
	slots := make(chan struct{}, 2)
	for i := range binaries {
		wg.Add(1)
		go func(b *testBinary) {
			defer wg.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			_, b.err = t.run(ctx, t.module, "test", "-c", "-ldflags=-w", "-o", b.path, b.pkg)
		}(&binaries[i])
	}
	wg.Wait()
	return binaries, ctx.Err()
}

// listTests finds the packages that have tests.
func (t *toolchain) listTests(ctx context.Context, patterns []string) ([]testBinary, error) {
	args := append([]string{"list", "-json=ImportPath,Dir,Module,TestGoFiles,XTestGoFiles", "--"}, patterns...)
	out, err := t.run(ctx, t.module, args...)
	if err != nil {
		return nil, err
	}
	binaries, err := parseList(bytes.NewReader(out))
	if err != nil {
		return nil, err
	}
	for i := range binaries {
		b := &binaries[i]
		b.path = filepath.Join(t.out, "tests", filepath.FromSlash(b.pkg), "test")
		if err := os.MkdirAll(filepath.Dir(b.path), 0o755); err != nil {
			return nil, err
		}
	}
	return binaries, nil
}

// parseList reads what go list -json prints.
func parseList(r io.Reader) ([]testBinary, error) {
	var binaries []testBinary
	for in := json.NewDecoder(r); ; {
		var p struct {
			ImportPath, Dir           string
			Module                    struct{ Path string }
			TestGoFiles, XTestGoFiles []string
		}
		err := in.Decode(&p)
		if errors.Is(err, io.EOF) {
			return binaries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		pkg := "." + strings.TrimPrefix(p.ImportPath, p.Module.Path)
		if pkg == harness || strings.HasPrefix(pkg, harness+"/") {
			continue
		}
		if len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 {
			binaries = append(binaries, testBinary{pkg: pkg, dir: p.Dir})
		}
	}
}
