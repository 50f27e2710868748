package spawn_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/virspawn/spawn"
)

// setWakeup is code under test.
func setWakeup(ctx context.Context, seconds int) error {
	return spawn.New("rtcwake", "-m", "no", "-s").AddArgf("%d", seconds).Run(ctx)
}

func ExampleWithDryRun() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		fmt.Println("would run:", call)
		call.Stderr = "rtcwake: no device\n"
		call.ExitCode = 1
	})
	fmt.Println(setWakeup(ctx, 60))
	// Output:
	// would run: rtcwake -m no -s 60
	// spawn: rtcwake -m no -s 60: exit status 1: rtcwake: no device
}

func ExampleSetDryRun() {
	restore := spawn.SetDryRun(func(call *spawn.DryRunCall) {
		call.Err = fs.ErrNotExist // as if it were not installed
	})
	defer restore()
	err := setWakeup(context.Background(), 60)
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output: true
}

// A program that runs until it is told to end, and then says good-bye.
func ExampleDryRunCall_Signals() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		signals := call.Signals()
		call.Stdout = "ready\n"
		call.Flush()
		fmt.Println("got", <-signals == syscall.SIGTERM)
		call.Stdout = "bye\n"
	})
	var out string
	p, err := spawn.New("frobnicated").SetOutputBuffer(&out).Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Abort(), p.Wait())
	fmt.Print(out)
	// Output:
	// got true
	// <nil> <nil>
	// ready
	// bye
}

// A program that answers each piece of its input at once.
func ExampleDryRunCall_Input() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		for {
			var a, b int
			if _, err := fmt.Fscan(call.Input(), &a, &b); err != nil {
				return
			}
			call.Stdout = fmt.Sprintln(a + b)
			call.Flush()
		}
	})
	p, err := spawn.New("adder").PipeStdin().PipeStdout().Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, pair := range []string{"1 2\n", "3 4\n"} {
		fmt.Fprint(p.Stdin(), pair)
		var sum int
		fmt.Fscan(p.Stdout(), &sum)
		fmt.Println(sum)
	}
	p.Stdin().Close()
	fmt.Println(p.Wait())
	p.Stdout().Close()
	// Output:
	// 3
	// 7
	// <nil>
}

// What a program is given, without running it; then for real.
func ExampleDryRunCall_RunReal() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		fmt.Printf("%q gets %q\n", call.Args, call.Stdin())
		call.RunReal()
	})
	out, err := spawn.New("sort", "-n").SetInput([]byte("10\n9\n")).Output(ctx)
	fmt.Printf("%q %v", out, err)
}

// One function for several programs.
func ExampleDryRunFunc() {
	var programs spawn.DryRunFunc = func(call *spawn.DryRunCall) {
		switch call.Path {
		case "git":
			call.Stdout = "main\n"
		case "make":
			call.Signal = syscall.SIGSEGV
		default:
			call.Err = fs.ErrNotExist
		}
	}
	ctx := spawn.WithDryRun(context.Background(), programs)
	out, err := spawn.New("git", "branch", "--show-current").Output(ctx)
	fmt.Printf("%q %v\n", out, err)
	fmt.Println(spawn.Run(ctx, "make"))
	fmt.Println(spawn.Run(ctx, "ninja"))
	// Output:
	// "main\n" <nil>
	// spawn: make: signal: segmentation fault
	// spawn: cannot start "ninja": start: file does not exist
}

func ExampleDryRunCall() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		fmt.Println(call.Path, call.Args, call.Env, call.Dir)
		fmt.Printf("%q\n", call.Stdin())
		for _, data := range call.Buffers {
			fmt.Printf("%q\n", data)
		}
		call.Stdout, call.Stderr, call.ExitCode = "1\n", "1 warning\n", 0
	})
	cmd := spawn.New("sql", "shop").SetArgv0("client").AddEnv("LC_ALL", "C").SetWorkingDirectory("/srv").SetInput([]byte("SELECT 1"))
	cmd.SetSendBuffer([]byte("hunter2"))
	out, err := cmd.Output(ctx)
	fmt.Printf("%q %v\n", out, err)
	// Output:
	// sql [client shop] [LC_ALL=C] /srv
	// "SELECT 1"
	// "hunter2"
	// "1\n" <nil>
}

// What a call is, for a log of the test's own.
func ExampleDryRunCall_SecretArg() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		for i, a := range call.Args {
			// The secret is there to be compared.
			fmt.Println(a, call.SecretArg(i))
		}
		fmt.Println(call)
	})
	_ = spawn.New("login", "-p").AddSecretArg("hunter2").Run(ctx)
	// Output:
	// login false
	// -p false
	// hunter2 true
	// login -p ***
}

func ExampleDryRunCall_SecretEnv() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		for i, pair := range call.Env {
			fmt.Println(pair, call.SecretEnv(i))
		}
	})
	_ = spawn.New("deploy").AddEnv("STAGE", "test").AddSecretEnv("TOKEN", "hunter2").Run(ctx)
	// Output:
	// STAGE=test false
	// TOKEN=hunter2 true
}

// What depends on the machine on which the test runs, and what does not.
func ExampleDryRunCall_PassedEnv() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		for i, pair := range call.Env {
			name, value, _ := strings.Cut(pair, "=")
			if call.PassedEnv(i) {
				value = "whatever it is here"
			}
			fmt.Println(name, "is", value)
		}
	})
	_ = spawn.New("git", "gc").AddEnvPassBlockSUID("SHELL", "/bin/sh").AddEnv("LC_ALL", "C").Run(ctx)
	// Output:
	// SHELL is whatever it is here
	// LC_ALL is C
}

// A service, which runs until it is ended.
func ExampleDryRunCall_Context() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		call.Stdout = "ready\n"
		call.Flush() // Start returns
		<-call.Context().Done()
	})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := spawn.New("frobnicated").PipeStdout().Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	var word string
	fmt.Fscan(p.Stdout(), &word)
	fmt.Println(word)
	cancel()
	fmt.Println(p.Wait())
	p.Stdout().Close()
	// Output:
	// ready
	// spawn: frobnicated: context canceled (signal: terminated)
}

// A program that is sent a signal before it has an answer.
func ExampleDryRunCall_Signalled() {
	ended := make(chan bool, 1)
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		call.Flush()
		<-call.Context().Done()
		ended <- call.Signalled()
	})
	p, err := spawn.New("frobnicated").Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Signal(syscall.SIGKILL), <-ended)
	fmt.Println(p.Wait())
	// Output:
	// <nil> true
	// spawn: frobnicated: signal: killed
}
