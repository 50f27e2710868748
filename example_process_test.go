//go:build linux

package spawn_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/virspawn/spawn"
)

func ExampleCommand_SetPidFile() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "service.pid")

	ctx := context.Background()
	p, err := spawn.New("cat").PipeStdin().SetPidFile(path).Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("is its pid:", string(text) == fmt.Sprintln(p.PID()))

	// As long as that one lives there is no second one. The error names it.
	err = spawn.New("cat").SetPidFile(path).Run(ctx)
	fmt.Println("is held:", errors.Is(err, syscall.EAGAIN), strings.Contains(err.Error(), fmt.Sprintf("held by process %d", p.PID())))

	p.Stdin().Close()
	if err := p.Wait(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("afterwards:", spawn.New("cat").SetPidFile(path).Run(ctx))
	// Output:
	// is its pid: true
	// is held: true true
	// afterwards: <nil>
}

func ExampleProcess_String() {
	p, err := spawn.New("cat").PipeStdin().Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	// Here, for any pid.
	print := func() { fmt.Println(strings.Replace(p.String(), fmt.Sprint(p.PID()), "4711", 1)) }
	print()
	p.Stdin().Close()
	<-p.Done()
	print()
	// Output:
	// cat (pid 4711): running
	// cat (pid 4711): exit status 0
}

func ExampleCommand_RequireHandshake() {
	ctx := context.Background()
	p, err := spawn.New("echo", "the program runs").SetStdout(os.Stdout).SetMaxCoreSize(0).RequireHandshake().Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := p.HandshakeWait(ctx); err != nil {
		log.Fatal(err)
	}
	// Everything is applied, and the program does not run yet: time to tell
	// others of its pid, or to look at it.
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.PID()))
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max core file size") {
			fmt.Println(strings.Join(strings.Fields(line), " "))
		}
	}
	if err := p.HandshakeNotify(); err != nil {
		log.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// Max core file size 0 0 bytes
	// the program runs
}

func ExampleCommand_SetPTY() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := spawn.New("sh", "-c", `stty -echo; stty size; read -r name; test -t 1 && echo "Hello, $name!"`).SetPTY(24, 80).Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer p.PTY().Close()
	screen := bufio.NewScanner(p.PTY())
	screen.Scan()
	fmt.Println("the size of the terminal:", screen.Text())
	if err := p.Resize(50, 132); err != nil { // the program gets SIGWINCH
		log.Fatal(err)
	}
	if _, err := io.WriteString(p.PTY(), "gopher\n"); err != nil {
		log.Fatal(err)
	}
	for screen.Scan() { // to the end of the program
		fmt.Println("it says:", screen.Text())
	}
	if err := p.Wait(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// the size of the terminal: 24 80
	// it says: Hello, gopher!
}

func ExampleCommand_Daemonize() {
	ctx := context.Background()
	p, err := spawn.New("sleep", "1000").Daemonize().Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	// It runs, in a session of its own and in /, and would go on if this
	// process ended now.
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.PID())); err == nil {
		fmt.Println("runs in", dir)
	}
	if err := p.Abort(); err != nil {
		log.Fatal(err)
	}
	<-p.Done()
	fmt.Println(p.Wait(), p.Status())

	_, err = spawn.New("nonesuchd").Daemonize().Start(ctx)
	fmt.Println(err)
	// Output:
	// runs in /
	// <nil> exit status unknown
	// spawn: cannot start "nonesuchd": search in PATH: executable file not found in $PATH
}

// What the child of a program that is not there would do.
func ExampleDryRunCall_Explain() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		text, err := call.Explain()
		if err != nil {
			fmt.Println(err)
		}
		for line := range strings.Lines(text) {
			if name, _, _ := strings.Cut(line, "("); name == "umask" || name == "setpriority" || name == "execve" {
				fmt.Print(line)
			}
		}
	})
	_ = spawn.New("/opt/bin/render", "--fast").ClearEnv().SetUmask(0o027).SetNice(10).Run(ctx)
	// Output:
	// umask(027)
	// setpriority(PRIO_PROCESS, 0, 10)
	// execve("/opt/bin/render", ["/opt/bin/render", "--fast"], [])
}
