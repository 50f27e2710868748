package spawn_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/virspawn/spawn"
)

// A daemon that runs only programs of /usr/sbin, and those without ways to gain privileges.
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

func ExampleCommand_SetLogger() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	_ = spawn.New("/bin/login").AddSecretArg("hunter2").SetLogger(logger).Run(context.Background())
}
