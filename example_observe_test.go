package spawn_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/virspawn/spawn"
)

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
