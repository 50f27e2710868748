package spawn_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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

// A daemon that runs only programs of /usr/sbin, and those without ways to
// gain privileges.
func ExampleSetPolicy() {
	restore := spawn.SetPolicy(func(c *spawn.Command) error {
		if path := c.Path(); filepath.Dir(path) != "/usr/sbin" || path != filepath.Clean(path) {
			return fmt.Errorf("%s is not in /usr/sbin", path)
		}
		c.SetNoNewPrivs()
		return nil
	})
	defer restore()
	fmt.Println(spawn.Run(context.Background(), "/bin/sh", "-c", "true"))
	fmt.Println(spawn.Run(context.Background(), "/usr/sbin/../bin/env"))
	// Output:
	// spawn: cannot start "/bin/sh": SetPolicy: /bin/sh is not in /usr/sbin
	// spawn: cannot start "/usr/sbin/../bin/env": SetPolicy: /usr/sbin/../bin/env is not in /usr/sbin
}

// underPolicy prints what becomes of a command under a policy, in a dry run.
func underPolicy(policy func(*spawn.Command) error, cmd *spawn.Command) {
	defer spawn.SetPolicy(policy)()
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) { fmt.Println("would run:", call) })
	if err := cmd.Run(ctx); err != nil {
		fmt.Println(err)
	}
}

// A rule about directories. In a dry run nothing is looked up in PATH: without
// a slash, the name is all that there is.
func ExampleCommand_Path() {
	policy := func(c *spawn.Command) error {
		if path := filepath.Clean(c.Path()); path != filepath.Base(path) && filepath.Dir(path) != "/usr/bin" {
			return fmt.Errorf("%s is not in /usr/bin", path)
		}
		return nil
	}
	underPolicy(policy, spawn.New("git", "gc"))
	underPolicy(policy, spawn.New("/usr/bin/../../tmp/git", "gc"))
	// Output:
	// would run: git gc
	// spawn: cannot start "/usr/bin/../../tmp/git": SetPolicy: /tmp/git is not in /usr/bin
}

// No container is privileged.
func ExampleCommand_Args() {
	policy := func(c *spawn.Command) error {
		if slices.Contains(c.Args(), "--privileged") {
			return errors.New("no privileged containers")
		}
		return nil
	}
	underPolicy(policy, spawn.New("podman", "run", "--privileged", "alpine"))
	// Output: spawn: cannot start "podman": SetPolicy: no privileged containers
}

// No library that is loaded before others.
func ExampleCommand_Env() {
	policy := func(c *spawn.Command) error {
		for _, pair := range c.Env() {
			if strings.HasPrefix(pair, "LD_PRELOAD=") {
				return errors.New("LD_PRELOAD is set")
			}
		}
		return nil
	}
	underPolicy(policy, spawn.New("git", "gc").AddEnv("LD_PRELOAD", "/tmp/lib.so"))
	// Output: spawn: cannot start "git": SetPolicy: LD_PRELOAD is set
}

// Programs whose working directory nobody has thought about hold no file system
// in use.
func ExampleCommand_Dir() {
	policy := func(c *spawn.Command) error {
		if c.Dir() == "" {
			c.SetWorkingDirectory("/")
		}
		fmt.Println("in", c.Dir())
		return nil
	}
	underPolicy(policy, spawn.New("git", "gc"))
	underPolicy(policy, spawn.New("git", "gc").SetWorkingDirectory("/src"))
	// Output:
	// in /
	// would run: git gc
	// in /src
	// would run: git gc
}

// counter counts programs that run.
type counter struct{ running, failed int }

func (c *counter) CommandStarted(context.Context, spawn.StartEvent)   { c.running++ }
func (c *counter) CommandExited(_ context.Context, e spawn.ExitEvent) { c.running-- }
func (c *counter) CommandFailed(_ context.Context, e spawn.FailEvent) { c.failed++; fmt.Println(e.Err) }

func ExampleSetObserver() {
	count := &counter{} // with a lock where commands run at once
	defer spawn.SetObserver(count)()
	_ = spawn.Run(context.Background(), "/no/such/program")
	fmt.Println(count.running, "running,", count.failed, "failed")
	// Output:
	// spawn: cannot start "/no/such/program": execve("/no/such/program"): no such file or directory
	// 0 running, 1 failed
}

// printer is an observer that prints what ends.
type printer struct{}

func (printer) CommandStarted(context.Context, spawn.StartEvent) {}

func (printer) CommandExited(_ context.Context, e spawn.ExitEvent) {
	fmt.Println(e.Command+":", e.Status, e.Duration > 0)
}

func (printer) CommandFailed(_ context.Context, e spawn.FailEvent) { fmt.Println(e.Err) }

func ExampleCommand_SetObserver() {
	_ = spawn.New("/bin/sh", "-c", "exit 3").SetObserver(printer{}).Run(context.Background())
	// Output: /bin/sh -c 'exit 3': exit status 3 true
}

// stable returns a logger for the debug level, without what is not the same in
// every run.
func stable() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey, "pid", "duration":
				return slog.Attr{}
			}
			return a
		},
	}))
}

// A whole program is logged by one call at the begin of main.
func ExampleSetLogger() {
	defer spawn.SetLogger(stable())()
	_ = spawn.New("/bin/echo").AddSecretArg("hunter2").Run(context.Background())
	_ = spawn.Run(context.Background(), "/no/such/program")
	// Output:
	// level=DEBUG msg="program started" command="/bin/echo ***" path=/bin/echo
	// level=DEBUG msg="program exited" command="/bin/echo ***" path=/bin/echo status="exit status 0"
	// level=DEBUG msg="program not started" command=/no/such/program path=/no/such/program err="spawn: cannot start \"/no/such/program\": execve(\"/no/such/program\"): no such file or directory"
}

func ExampleCommand_SetLogger() {
	_ = spawn.New("/bin/sh", "-c", "kill -TERM $$").SetLogger(stable()).Run(context.Background())
	// Output:
	// level=DEBUG msg="program started" command="/bin/sh -c 'kill -TERM $$'" path=/bin/sh
	// level=DEBUG msg="program exited" command="/bin/sh -c 'kill -TERM $$'" path=/bin/sh status="signal: terminated"
}
