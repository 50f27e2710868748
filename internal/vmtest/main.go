// Command vmtest runs the tests of this module on real kernels, as root and as
// nobody, in virtual machines emulated by QEMU.
//
// It expects kernels and a static busybox in a cache folder, which the script
// .ci/vm fills:
//
//	busybox-amd64
//	bullseye-amd64/vmlinuz-5.10.0-32-cloud-amd64
//	…
//
// The tests of every package are compiled here and packed, together with a
// small first process (the command guest), into a root file system that a
// kernel unpacks into memory. The tests run in a folder that holds nothing but
// the package's testdata.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options is what the command line says.
type options struct {
	kernels     string
	packages    []string
	run         string
	kernelTests bool
	env         []string
	module      string
	cache       string
	timeout     time.Duration
	testTimeout time.Duration
	jobs        int
	keep        bool
}

func parseFlags(args []string) (*options, error) {
	o := &options{packages: []string{"./..."}}
	flags := flag.NewFlagSet("vmtest", flag.ContinueOnError)
	flags.StringVar(&o.kernels, "kernels", "*", "run the kernels whose version or machine matches one of these `patterns`, as 5.10* or *arm64, separated by spaces")
	flags.Func("packages", "test these packages only: `patterns` of the go command, separated by spaces (default ./...)", func(s string) error {
		o.packages = strings.Fields(s)
		return nil
	})
	flags.StringVar(&o.run, "run", "", "run only tests that match this `regexp`")
	flags.BoolVar(&o.kernelTests, "kernel-tests", false, "run only the tests in which the kernel's side may be another one; -run goes before")
	flags.Func("env", "set a variable, `NAME=VALUE`, for the tests; may be repeated", func(s string) error {
		if !strings.Contains(s, "=") {
			return errors.New("want NAME=VALUE")
		}
		o.env = append(o.env, s)
		return nil
	})
	flags.StringVar(&o.module, "module", ".", "test the module in this `folder`")
	flags.StringVar(&o.cache, "cache", defaultCache(), "take kernels from this `folder`")
	flags.DurationVar(&o.timeout, "timeout", 20*time.Minute, "stop a machine after this `time`")
	flags.DurationVar(&o.testTimeout, "test-timeout", 3*time.Minute, "stop one package's tests after this `time`")
	flags.IntVar(&o.jobs, "j", 2, "run this `number` of machines at once")
	flags.BoolVar(&o.keep, "keep", false, "keep the folder with consoles, outputs and file systems")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 || o.jobs < 1 {
		flags.Usage()
		return nil, errors.New("bad arguments")
	}
	var err error
	o.module, err = filepath.Abs(o.module)
	return o, err
}

// defaultCache is the folder that .ci/vm uses.
func defaultCache() string {
	if dir := os.Getenv("SPAWN_VM_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ".cache"
	}
	return filepath.Join(dir, "spawn-vm")
}

func main() {
	o, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmtest:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rep := &reporter{out: os.Stdout}
	if err := testAll(ctx, o, rep); err != nil {
		rep.fail("vmtest", err.Error())
	}
	if !rep.close() {
		os.Exit(1)
	}
}

// testAll runs everything. Its error is one that stopped all machines; what
// went wrong in one is in the report.
func testAll(ctx context.Context, o *options, rep *reporter) error {
	found, err := find(machines(), o.cache, o.kernels)
	if err != nil {
		return err
	}
	if o.kernelTests {
		for i := range found {
			found[i].tests = kernelTests + "|" + directTests
		}
	}
	work, err := os.MkdirTemp("", "vmtest-")
	if err != nil {
		return err
	}
	if o.keep {
		fmt.Fprintln(os.Stderr, "vmtest: everything is kept in", work)
	} else {
		defer os.RemoveAll(work)
	}
	builds, err := buildAll(ctx, o, work, found, rep)
	if err != nil {
		return err
	}

	queue := make(chan *bootable, len(found))
	for i := range found {
		queue <- &found[i]
	}
	close(queue)
	var wg sync.WaitGroup
	for range o.jobs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for b := range queue {
				newSession(o, b, builds[b.arch], filepath.Join(work, b.name), rep).run(ctx)
			}
		}()
	}
	wg.Wait()
	return nil
}

// build is what the guests of one architecture run.
type build struct {
	guest    string
	binaries []testBinary
}

// buildAll builds for every architecture that has a kernel.
func buildAll(ctx context.Context, o *options, work string, found []bootable, rep *reporter) (map[string]build, error) {
	builds := map[string]build{}
	for _, b := range found {
		if _, done := builds[b.arch]; done || b.vmlinuz == "" {
			continue
		}
		t := &toolchain{module: o.module, arch: b.arch, out: filepath.Join(work, b.arch)}
		guest, err := t.buildGuest(ctx)
		if err != nil {
			return nil, err
		}
		all, err := t.buildTests(ctx, o.packages)
		if err != nil {
			return nil, err
		}
		builds[b.arch] = build{guest: guest, binaries: compiled(all, b.arch, rep)}
	}
	return builds, nil
}

// compiled reports the packages that do not compile and returns the others.
func compiled(all []testBinary, arch string, rep *reporter) []testBinary {
	var good []testBinary
	for _, b := range all {
		if b.err != nil {
			rep.fail("build  "+b.pkg+"  linux/"+arch, b.err.Error())
			continue
		}
		good = append(good, b)
	}
	return good
}
