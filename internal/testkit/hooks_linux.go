package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

// Hooks must be registered while the program is initialised.
var (
	HookWrites = spawn.RegisterHook("writes", func(arg string) error {
		_, err := os.NewFile(3, "passed").WriteString(arg + "\n")
		return err
	})
	HookFails  = spawn.RegisterHook("fails", func(arg string) error { return errors.New(arg) })
	HookErrno  = spawn.RegisterHook("errno", func(string) error { return os.Mkdir("/proc/spawn", 0o700) })
	HookPanics = spawn.RegisterHook("panics", func(arg string) error { panic(arg) })
	HookNil    = spawn.RegisterHook("dereferences nil", func(string) error { var p *int; *p = 1; return nil })
	HookExits  = spawn.RegisterHook("exits", func(string) error { os.Exit(3); return nil })
	HookGoexit = spawn.RegisterHook("goexit", func(string) error { runtime.Goexit(); return nil })
	HookBlocks = spawn.RegisterHook("blocks", func(string) error {
		_, err := os.NewFile(3, "passed").WriteString("blocks\n")
		for {
			_, _ = unix.Select(0, nil, nil, nil, nil)
			if err != nil {
				return err
			}
		}
	})
	// HookCloses closes all but the standard streams, the descriptors of the
	// library too, and stays.
	HookCloses = spawn.RegisterHook("closes", func(string) error {
		_ = closeButRuntimes()
		for {
			_, _ = unix.Select(0, nil, nil, nil, nil)
		}
	})
	HookClosesAndReturns = spawn.RegisterHook("closes and returns", func(string) error { return closeButRuntimes() })
	HookClosesAll        = spawn.RegisterHook("closes all", func(string) error { return unix.CloseRange(3, 1<<20, 0) })
	HookState            = spawn.RegisterHook("state", func(string) error {
		fmt.Println("uid", os.Getuid(), "main thread", unix.Gettid() == os.Getpid(), "umask", fmt.Sprintf("%#o", unix.Umask(0)))
		unix.Umask(0o27)
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err != nil {
			return err
		}
		fmt.Println("core", l.Cur, l.Max)
		fmt.Println("variable", os.Getenv("SPAWN_TEST_VARIABLE"))
		// Other threads see the same descriptors.
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			_, err := os.NewFile(5, "passed").WriteString("from a thread\n")
			done <- err
		}()
		return <-done
	})
	HookChown = spawn.RegisterHook("chown", func(path string) error { return os.Chown(path, 65534, 65534) })
	HookRuns  = spawn.RegisterHook("runs", func(arg string) error { return exec.Command("/bin/sh", "-c", arg).Run() })
)

// closeButRuntimes closes all but the standard streams and the descriptors of
// the Go runtime, which ends the process when it finds them closed.
func closeButRuntimes() error {
	entries, err := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if n, _ := strconv.Atoi(e.Name()); n > 2 && !strings.HasPrefix(target, "anon_inode:[event") {
			_ = unix.Close(n)
		}
	}
	return err
}
