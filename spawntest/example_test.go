package spawntest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/spawntest"
)

// mkfs is code under test.
func mkfs(ctx context.Context, device, label string) error {
	if err := spawn.New("wipefs", "--all", device).Run(ctx); err != nil {
		return fmt.Errorf("wipe: %w", err)
	}
	return spawn.New("mkfs.ext4", "-q", "-L", label, device).Run(ctx)
}

func ExampleNew() {
	_ = func(t *testing.T) { // in a file of tests: func TestMkfs(t *testing.T)
		ctx, script := spawntest.New(t)
		script.Expect("wipefs", "--all", "/dev/sdx")
		script.Expect("mkfs.ext4", "-q", "-L", spawntest.Regexp("[a-z]+"), spawntest.Rest).
			Stderr("mkfs.ext4: Device or resource busy\n").Exit(1)
		err := mkfs(ctx, "/dev/sdx", "data")
		if err == nil || !strings.Contains(err.Error(), "busy") {
			t.Errorf("mkfs: %v", err)
		}
	}
}

func ExampleRecord() {
	_ = func(t *testing.T) {
		ctx := spawntest.Record(t, "testdata/sort.golden")
		out, err := spawn.New("sort", "-n").AddEnvPassCommon().AddEnv("LC_ALL", "C").SetInput([]byte("10\n9\n")).Output(ctx)
		if err != nil || string(out) != "9\n10\n" {
			t.Errorf("%q, %v", out, err)
		}
	}
}

// runTest runs a test, as go test does, and prints how it fails. (HERE) is the
// file and the line.
func runTest(test func(t testing.TB)) {
	if failures := spawntest.Fake(test); failures != "" {
		fmt.Println(failures)
		return
	}
	fmt.Println("ok")
}

// What differs is reported at the end of the test.
func ExampleScript_Expect() {
	runTest(func(t testing.TB) {
		ctx, script := spawntest.New(t)
		script.Expect("wipefs", "--all", "/dev/sdx")
		script.Expect("mkfs.ext4", "-q", "-L", "data", "/dev/sdx")
		_ = mkfs(ctx, "/dev/sdx", "date")
	})
	// Output:
	// spawntest: call 2 differs from what is expected
	//   expected: mkfs.ext4 -q -L data /dev/sdx  (HERE)
	//   called:   mkfs.ext4 -q -L date /dev/sdx
	//   argument 3:
	//     expected data
	//     got      date
}

// What a program is given besides its arguments.
func ExampleExpectation() {
	runTest(func(t testing.TB) {
		ctx, script := spawntest.New(t)
		script.Expect("sfdisk", "--no-reread", "/dev/sdx").
			Stdin("label: gpt\n,,L\n").
			Env("LC_ALL", "C").
			NoEnv("LD_PRELOAD").
			Dir(""). // this process's
			SendBuffer(spawntest.Prefix("[settings]"))
		cmd := spawn.New("sfdisk", "--no-reread", "/dev/sdx").
			SetInput([]byte("label: gpt\n,,S\n")).
			AddEnv("LC_ALL", "C").
			AddEnv("LD_PRELOAD", "/tmp/lib.so")
		cmd.SetSendBuffer([]byte("[settings]\n"))
		_ = cmd.Run(ctx)
	})
	// Output:
	// spawntest: call 1 differs from what is expected
	//   expected: sfdisk --no-reread /dev/sdx  (HERE)
	//   called:   sfdisk --no-reread /dev/sdx
	//   variable LD_PRELOAD: expected none
	//   standard input, line 2:
	//     expected ",,L\n"
	//     got      ",,S\n"
}

// The order of calls is nobody's business where several programs run at once.
func ExampleAnyOrder() {
	runTest(func(t testing.TB) {
		ctx, script := spawntest.New(t, spawntest.AnyOrder())
		script.Expect("gzip", "a")
		script.Expect("gzip", "b")
		ends := make(chan error)
		for _, name := range []string{"b", "a"} {
			go func() { ends <- spawn.Run(ctx, "gzip", name) }()
		}
		for range 2 {
			if err := <-ends; err != nil {
				t.Errorf("%v", err)
			}
		}
	})
	// Output: ok
}

// A secret that is no secret argument or variable, but goes to standard input.
func ExampleHide() {
	runTest(func(t testing.TB) {
		ctx, script := spawntest.New(t, spawntest.Hide("hunter2"))
		script.Expect("chpasswd").Stdin("root:hunter2\n")
		_ = spawn.New("chpasswd").SetInput([]byte("guest:hunter2\n")).Run(ctx)
	})
	// Output:
	// spawntest: call 1 differs from what is expected
	//   expected: chpasswd  (HERE)
	//   called:   chpasswd
	//   standard input, line 1:
	//     expected "root:***\n"
	//     got      "guest:***\n"
}

// A directory that has another name in each run. The golden file has $DIR in
// its place.
func ExampleReplace() {
	_ = func(t *testing.T) {
		dir := t.TempDir()
		ctx := spawntest.Record(t, "testdata/list.golden", spawntest.Replace(dir, "$DIR"))
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		out, err := spawn.New("find", dir, "-type", "f").AddEnvPassCommon().Output(ctx)
		if err != nil || string(out) != dir+"/file\n" {
			t.Errorf("%q, %v", out, err)
		}
	}
}

// One call that comes some times, and one that may come or not.
func ExampleExpectation_Times() {
	runTest(func(t testing.TB) {
		ctx, script := spawntest.New(t)
		script.Expect("ping", spawntest.Any).Times(3)
		script.Expect("logger", spawntest.Rest).AnyTimes()
		for range 2 {
			if err := spawn.Run(ctx, "ping", "example.org"); err != nil {
				t.Errorf("%v", err)
			}
		}
	})
	// Output:
	// spawntest: a call is missing (called 2 of 3 times)
	//   expected: ping <any>  (HERE)
}

// What a program does: output, an exit code or a signal; or that it is not
// there at all.
func ExampleExpectation_StartError() {
	runTest(func(t testing.TB) {
		ctx, script := spawntest.New(t)
		script.Expect("make").Stdout("cc a.c\n").Stderr("a.c: no such file\n").Exit(2)
		script.Expect("make").Signal(syscall.SIGSEGV)
		script.Expect("make").StartError(fs.ErrNotExist)
		out, err := spawn.New("make").Output(ctx)
		fmt.Printf("%q %v\n", out, err)
		fmt.Println(spawn.Run(ctx, "make"))
		fmt.Println(errors.Is(spawn.Run(ctx, "make"), fs.ErrNotExist))
	})
	// Output:
	// "cc a.c\n" spawn: make: exit status 2: a.c: no such file
	// spawn: make: signal: segmentation fault
	// true
	// ok
}

// A service, which runs until it is ended.
func ExampleExpectation_Runs() {
	runTest(func(t testing.TB) {
		ctx, script := spawntest.New(t)
		script.Expect("frobnicated", spawntest.Rest).Stdout("ready\n").Runs()
		p, err := spawn.New("frobnicated", "--foreground").PipeStdout().Start(ctx)
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer p.Stdout().Close()
		var word string
		fmt.Fscan(p.Stdout(), &word)
		fmt.Println(word, p.Abort(), p.Status())
	})
	// Output:
	// ready <nil> signal: terminated
	// ok
}

// A program whose answer depends on what it is given.
func ExampleExpectation_Do() {
	runTest(func(t testing.TB) {
		ctx, script := spawntest.New(t)
		script.Expect("tr", "a-z", "A-Z").Do(func(call *spawn.DryRunCall) {
			call.Stdout = strings.ToUpper(call.Stdin())
		}).AnyTimes()
		for _, word := range []string{"one", "two"} {
			out, err := spawn.New("tr", "a-z", "A-Z").SetInput([]byte(word)).Output(ctx)
			fmt.Printf("%s %v\n", out, err)
		}
	})
	// Output:
	// ONE <nil>
	// TWO <nil>
	// ok
}

func ExampleMatcher() {
	address := spawntest.Func("an IPv6 address", func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is6()
	})
	runTest(func(t testing.TB) {
		_, script := spawntest.New(t)
		fmt.Println(script.Expect("ip", spawntest.Any, spawntest.Prefix("--dev="), spawntest.Contains("/"), spawntest.Regexp("[0-9]+"), address, spawntest.Rest).AnyTimes())
	})
	fmt.Println(address.Match("::1"), address.Match("127.0.0.1"))
	// Output:
	// ip <any> <beginning with "--dev="> <containing "/"> <matching [0-9]+> <an IPv6 address> <any more>
	// ok
	// true false
}

// A recorded run, as it is replayed: see testdata/sort.golden.
func TestASortedListIsReplayed(t *testing.T) {
	ctx := spawntest.Record(t, "testdata/sort.golden")
	out, err := spawn.New("sort", "-n").AddEnvPassCommon().AddEnv("LC_ALL", "C").SetInput([]byte("10\n9\n")).Output(ctx)
	if err != nil || string(out) != "9\n10\n" {
		t.Errorf("%q, %v", out, err)
	}
}
