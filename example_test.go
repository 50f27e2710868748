//go:build linux

package spawn_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/virspawn/spawn"
)

func Example() {
	// Without a shell, without this process's environment, and without any
	// descriptor but the standard streams.
	out, err := spawn.New("cat", "-").
		AddEnvPassCommon().
		SetInput([]byte("hello\n")).
		SetWorkingDirectory("/").
		SetUmask(0o077).
		SetMaxFiles(64).
		Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
	// Output: hello
}

func Example_context() {
	ctx, cancel := context.WithCancel(context.Background())
	p, err := spawn.New("sleep", "1000").Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	// The program gets SIGTERM and, should it be necessary, SIGKILL later.
	cancel()
	err = p.Wait()
	fmt.Println(errors.Is(err, context.Canceled))
	fmt.Println(err)
	// Output:
	// true
	// spawn: sleep 1000: context canceled (signal: terminated)
}

// Building a command.

func ExampleNew() {
	// No argument is split or expanded.
	out, err := spawn.New("echo", "*", "a  b", "$HOME").Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
	// Output: * a  b $HOME
}

func ExampleNew_badCall() {
	// The first bad call is kept. Whatever would run the command reports it,
	// and starts nothing.
	cmd := spawn.New("echo", "a\x00b").SetUmask(0o1000)
	fmt.Println(cmd.Run(context.Background()))
	// Output: spawn: New: the argument "a\x00b" has a NUL byte
}

func ExampleCommand_AddArg() {
	cmd := spawn.New("echo").AddArg("one", "two")
	fmt.Println(cmd)
	// Output: echo one two
}

func ExampleCommand_AddArgf() {
	cmd := spawn.New("head").AddArgf("-c%d", 512)
	fmt.Println(cmd)
	// Output: head -c512
}

func ExampleCommand_AddArgPair() {
	cmd := spawn.New("mount").AddArgPair("--options", "ro,nosuid")
	fmt.Println(cmd)
	// Output: mount '--options=ro,nosuid'
}

func ExampleCommand_AddSecretArg() {
	cmd := spawn.New("echo").AddSecretArg("hunter2")
	fmt.Println(cmd)
	out, err := cmd.Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
	// Output:
	// echo ***
	// hunter2
}

func ExampleCommand_SetArgv0() {
	out, err := spawn.New("sh", "-c", "echo $0").SetArgv0("-sh").Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
	// Output: -sh
}

func ExampleCommand_Clone() {
	base := spawn.New("echo").SetUmask(0o077).AddArg("hello")
	other := base.Clone().AddArg("world")
	fmt.Println(base)
	fmt.Println(other)
	// Output:
	// echo hello
	// echo hello world
}

func ExampleCommand_String() {
	cmd := spawn.New("grep", "it's", "a file").AddEnv("LC_ALL", "C").AddSecretEnv("TOKEN", "hunter2")
	fmt.Println(cmd)
	// Output: LC_ALL=C TOKEN=*** grep 'it'\''s' 'a file'
}

func ExampleCommand_Explain() {
	text, err := spawn.New("/bin/echo", "hello").AddEnv("LC_ALL", "C").SetUmask(0o077).SetSession().Explain()
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(text) {
		// Leave out descriptors, whose numbers depend on this process, and the
		// many signals.
		call, _, _ := strings.Cut(line, "(")
		switch call {
		case "setsid", "umask", "rt_sigprocmask", "execve":
			fmt.Print(line)
		}
	}
	// Output:
	// setsid()
	// umask(077)
	// rt_sigprocmask(SIG_SETMASK, [], NULL, 8)
	// execve("/bin/echo", ["/bin/echo", "hello"], ["LC_ALL=C"])
}

// The environment.

// printEnv prints the environment that a command's program gets.
func printEnv(cmd *spawn.Command) {
	out, err := cmd.Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
}

func ExampleCommand_AddEnv() {
	printEnv(spawn.New("env").AddEnv("LC_ALL", "C").AddEnv("TZ", "UTC").AddEnv("LC_ALL", "POSIX"))
	// Output:
	// LC_ALL=POSIX
	// TZ=UTC
}

func ExampleCommand_AddEnvf() {
	printEnv(spawn.New("env").AddEnvf("GOMAXPROCS=%d", 2))
	// Output: GOMAXPROCS=2
}

func ExampleCommand_AddEnvString() {
	printEnv(spawn.New("env").AddEnvString("OPTIONS=a=1,b=2"))
	// Output: OPTIONS=a=1,b=2
}

func ExampleCommand_AddSecretEnv() {
	cmd := spawn.New("env").AddSecretEnv("TOKEN", "hunter2")
	fmt.Println(cmd)
	printEnv(cmd)
	// Output:
	// TOKEN=*** env
	// TOKEN=hunter2
}

func ExampleCommand_AddEnvPassAllowSUID() {
	os.Setenv("SPAWN_EXAMPLE", "passed on")
	defer os.Unsetenv("SPAWN_EXAMPLE")
	printEnv(spawn.New("env").AddEnvPassAllowSUID("SPAWN_EXAMPLE", "SPAWN_UNSET"))
	// Output: SPAWN_EXAMPLE=passed on
}

func ExampleCommand_AddEnvPassBlockSUID() {
	printEnv(spawn.New("env").AddEnvPassBlockSUID("SPAWN_UNSET", "fallback"))
	// Output: SPAWN_UNSET=fallback
}

func ExampleCommand_AddEnvPassAll() {
	os.Setenv("SERVICE", "storage")
	out, err := spawn.New("/bin/sh", "-c", "echo $SERVICE $VOLUME").AddEnvPassAll().AddEnv("VOLUME", "7").Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(out))
	// Output: storage 7
}

func ExampleCommand_AddEnvPassCommon() {
	cmd := spawn.New("env").AddEnvPassCommon().AddEnv("LC_ALL", "C")
	out, err := cmd.Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bytes.Contains(out, []byte("PATH="+os.Getenv("PATH")+"\n")))
	fmt.Println(bytes.HasSuffix(out, []byte("LC_ALL=C\n")))
	// Output:
	// true
	// true
}

func ExampleCommand_AddEnvXDG() {
	printEnv(spawn.New("env").AddEnvXDG("/var/lib/service"))
	// Output:
	// XDG_DATA_HOME=/var/lib/service/.local/share
	// XDG_CACHE_HOME=/var/lib/service/.cache
	// XDG_CONFIG_HOME=/var/lib/service/.config
}

func ExampleCommand_ClearEnv() {
	// Even without any AddEnv the program inherits nothing.
	printEnv(spawn.New("env").ClearEnv())
	// Output:
}

// The standard streams.

func ExampleCommand_SetInput() {
	out, err := spawn.New("cat").SetInput([]byte("from memory\n")).Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
	// Output: from memory
}

func ExampleCommand_SetStdin() {
	out, err := spawn.New("cat").SetStdin(strings.NewReader("from a reader\n")).Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
	// Output: from a reader
}

func ExampleCommand_SetStdout() {
	// An *os.File is handed to the program; any other writer gets a copy.
	if err := spawn.New("echo", "to a file").SetStdout(os.Stdout).Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	var b bytes.Buffer
	if err := spawn.New("echo", "to a writer").SetStdout(&b).Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Print(&b)
	// Output:
	// to a file
	// to a writer
}

func ExampleCommand_SetStderr() {
	var b bytes.Buffer
	if err := spawn.New("sh", "-c", "echo oops >&2").SetStderr(&b).Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Print(&b)
	// Output: oops
}

func ExampleCommand_SetOutputBuffer() {
	var out, errs string
	cmd := spawn.New("sh", "-c", "echo result; echo warning >&2; exit 3").SetOutputBuffer(&out).SetErrorBuffer(&errs)
	fmt.Println(cmd.Run(context.Background()) != nil)
	fmt.Printf("%q %q\n", out, errs)
	// Output:
	// true
	// "result\n" "warning\n"
}

func ExampleCommand_SetErrorBuffer() {
	// One string for both: in the order of the writing.
	var both string
	cmd := spawn.New("sh", "-c", "echo 1; echo 2 >&2; echo 3").SetOutputBuffer(&both).SetErrorBuffer(&both)
	if err := cmd.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", both)
	// Output: "1\n2\n3\n"
}

func ExampleCommand_MergeStderr() {
	cmd := spawn.New("sh", "-c", "echo 1; echo 2 >&2").SetStdout(os.Stdout).MergeStderr()
	if err := cmd.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 1
	// 2
}

func ExampleCommand_InheritStdio() {
	if err := spawn.New("vi", "/etc/motd").InheritStdio().Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func ExampleCommand_PipeStdin() {
	p, err := spawn.New("sh", "-c", "read line; echo got $line; cat >/dev/null; echo the end").
		PipeStdin().
		PipeStdout().
		Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	out := bufio.NewScanner(p.Stdout())
	fmt.Fprintln(p.Stdin(), "a question")
	out.Scan()
	fmt.Println(out.Text())
	p.Stdin().Close()
	out.Scan()
	fmt.Println(out.Text())
	p.Stdout().Close()
	if err := p.Wait(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// got a question
	// the end
}

func ExampleCommand_PipeStdout() {
	p, err := spawn.New("echo", "hello").PipeStdout().Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer p.Stdout().Close()
	text, err := io.ReadAll(p.Stdout())
	fmt.Printf("%q %v %v\n", text, err, p.Wait())
	// Output: "hello\n" <nil> <nil>
}

func ExampleCommand_PipeStderr() {
	p, err := spawn.New("sh", "-c", "echo oops >&2").PipeStderr().Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer p.Stderr().Close()
	text, err := io.ReadAll(p.Stderr())
	fmt.Printf("%q %v %v\n", text, err, p.Wait())
	// Output: "oops\n" <nil> <nil>
}

// Further descriptors.

// temporaryFile returns a file that has been deleted already, at its start.
func temporaryFile(text string) *os.File {
	f, err := os.CreateTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		log.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		log.Fatal(err)
	}
	return f
}

func ExampleCommand_PassFD() {
	f := temporaryFile("from the file\n")
	cmd := spawn.New("cat")
	// With CloseParent the running call closes the file in this process.
	cmd.AddArgf("/dev/fd/%d", cmd.PassFD(f, spawn.CloseParent))
	out, err := cmd.Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
	// Output: from the file
}

func ExampleCommand_PassFDAs() {
	f := temporaryFile("from the file\n")
	defer f.Close()
	out, err := spawn.New("sh", "-c", "cat <&3").PassFDAs(f, 3).Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
	// Output: from the file
}

func ExampleCommand_AddListenFD() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		log.Fatal(err)
	}
	defer socket.Close()
	// A service would call sd_listen_fds(3).
	cmd := spawn.New("sh", "-c", `[ $LISTEN_PID = $$ ] && echo $LISTEN_FDS socket from 3 on: $LISTEN_FDNAMES`)
	out, err := cmd.AddListenFD(socket, "http").Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
	// Output: 1 socket from 3 on: http
}

func ExampleCommand_SetSendBuffer() {
	cmd := spawn.New("cat")
	cmd.AddArgf("/dev/fd/%d", cmd.SetSendBuffer([]byte("a secret that is neither argument nor variable\n")))
	out, err := cmd.Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
	// Output: a secret that is neither argument nor variable
}

// Attributes of the process.

// printOutput runs a command and prints its output.
func printOutput(cmd *spawn.Command) {
	out, err := cmd.Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
}

// printCalls prints those system calls of a command's child that start with one
// of the prefixes.
func printCalls(cmd *spawn.Command, prefixes ...string) {
	text, err := cmd.Explain()
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(text) {
		for _, prefix := range prefixes {
			if strings.HasPrefix(line, prefix) {
				fmt.Print(line)
			}
		}
	}
}

func ExampleCommand_SetWorkingDirectory() {
	printOutput(spawn.New("pwd").SetWorkingDirectory("/dev"))
	// Output: /dev
}

func ExampleCommand_SetUmask() {
	printOutput(spawn.New("sh", "-c", "umask").SetUmask(0o027))
	// Output: 0027
}

func ExampleCommand_SetRlimit() {
	// The soft limit is 60 seconds of processor time, the hard limit 61.
	printOutput(spawn.New("sh", "-c", "ulimit -S -t; ulimit -H -t").SetRlimit(syscall.RLIMIT_CPU, 60, 61))
	// Output:
	// 60
	// 61
}

func ExampleCommand_SetMaxFiles() {
	printOutput(spawn.New("sh", "-c", "ulimit -n").SetMaxFiles(64))
	// Output: 64
}

func ExampleCommand_SetMaxProcesses() {
	printCalls(spawn.New("/bin/true").SetMaxProcesses(10), "prlimit64(0, RLIMIT_NPROC")
	// Output: prlimit64(0, RLIMIT_NPROC, {soft=10, hard=10}, NULL)
}

func ExampleCommand_SetMaxMemLock() {
	// The shell shows KiB.
	printOutput(spawn.New("sh", "-c", "ulimit -l").SetMaxMemLock(8 << 10))
	// Output: 8
}

func ExampleCommand_SetMaxCoreSize() {
	printOutput(spawn.New("sh", "-c", "ulimit -c").SetMaxCoreSize(0))
	// Output: 0
}

// To become another user needs privileges, so the examples show only what the
// child would do.

func ExampleCommand_SetUID() {
	cmd := spawn.New("/bin/true").SetUID(4242).SetGID(4242)
	printCalls(cmd, "setgroups", "setresgid", "setresuid")
	// Output:
	// setgroups(0, [])
	// setresgid(4242, 4242, 4242)
	// setresuid(4242, 4242, 4242)
}

func ExampleCommand_SetGID() {
	printCalls(spawn.New("/bin/true").SetGID(4242), "setgroups", "setresgid", "setresuid")
	// Output:
	// setgroups(0, [])
	// setresgid(4242, 4242, 4242)
}

func ExampleCommand_KeepGroups() {
	// The groups of this process stay, for better or worse.
	printCalls(spawn.New("/bin/true").SetUID(4242).SetGID(4242).KeepGroups(), "setgroups", "setresgid", "setresuid")
	// Output:
	// setresgid(4242, 4242, 4242)
	// setresuid(4242, 4242, 4242)
}

func ExampleCommand_SetGroups() {
	printCalls(spawn.New("/bin/true").SetGroups(4242, 4243), "setgroups")
	// Output: setgroups(2, [4242, 4243])
}

func ExampleCommand_SetUser() {
	printCalls(spawn.New("/bin/true").SetUser("root"), "setresgid", "setresuid")
	// Output:
	// setresgid(0, 0, 0)
	// setresuid(0, 0, 0)
}

func ExampleCommand_SetSession() {
	// The fields of stat are pid, name, state, parent, process group, session.
	printOutput(spawn.New("sh", "-c", `read pid name state parent group session rest </proc/self/stat
		test $pid = $group && test $pid = $session && echo leader of a session`).SetSession())
	// Output: leader of a session
}

func ExampleCommand_SetProcessGroup() {
	printOutput(spawn.New("sh", "-c", `read pid name state parent group rest </proc/self/stat
		test $pid = $group && echo leader of a group`).SetProcessGroup())
	// Output: leader of a group
}

// Running.

func ExampleRun() {
	if err := spawn.Run(context.Background(), "sh", "-c", "exit 0"); err != nil {
		log.Fatal(err)
	}
	// Output:
}

func ExampleCommand_Run() {
	err := spawn.New("sh", "-c", "echo no such volume >&2; exit 3").Run(context.Background())
	fmt.Println(err)
	// Output: spawn: sh -c 'echo no such volume >&2; exit 3': exit status 3: no such volume
}

func ExampleCommand_RunStatus() {
	status, err := spawn.New("sh", "-c", "exit 3").RunStatus(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.ExitCode, status.MaxRSS > 0)
	// Output: 3 true
}

func ExampleCommand_Output() {
	out, err := spawn.New("echo", "hello").Output(context.Background())
	fmt.Printf("%q %v\n", out, err)
	// Output: "hello\n" <nil>
}

func ExampleCommand_CombinedOutput() {
	out, err := spawn.New("sh", "-c", "echo 1; echo 2 >&2; echo 3").CombinedOutput(context.Background())
	fmt.Printf("%q %v\n", out, err)
	// Output: "1\n2\n3\n" <nil>
}

func ExampleCommand_Lines() {
	for line, err := range spawn.New("sh", "-c", "echo one; echo two; exit 1").Lines(context.Background()) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println("-", line)
	}
	// Output:
	// - one
	// - two
	// spawn: sh -c 'echo one; echo two; exit 1': exit status 1
}

func ExampleCommand_Lines_leaveEarly() {
	// To leave the loop ends the program.
	for line, err := range spawn.New("sh", "-c", "while :; do echo again; done").Lines(context.Background()) {
		fmt.Println(line, err)
		break
	}
	// Output: again <nil>
}

func ExampleCommand_Records() {
	// File names may have line feeds in them, but no NUL.
	for name, err := range spawn.New("printf", `plain\0two\nlines\0`).Records(context.Background(), 0) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Printf("%q\n", name)
	}
	// Output:
	// "plain"
	// "two\nlines"
}

func ExampleCommand_RunRegex() {
	cmd := spawn.New("printf", `%s\n`, "cpu MHz : 2400.0", "cache size : 512 KB", "fpu : yes")
	err := cmd.RunRegex(context.Background(), regexp.MustCompile(`^(.+) : (\d+)`), func(groups []string) error {
		fmt.Printf("%s is %s\n", groups[1], groups[2])
		return nil
	})
	fmt.Println(err)
	// Output:
	// cpu MHz is 2400
	// cache size is 512
	// <nil>
}

func ExampleCommand_RunRegex_enough() {
	// An error ends the program, here one that would never end.
	found := errors.New("found")
	cmd := spawn.New("sh", "-c", "while :; do echo noise; echo port=8080; done")
	err := cmd.RunRegex(context.Background(), regexp.MustCompile(`^port=(\d+)$`), func(groups []string) error {
		fmt.Println(groups[1])
		return found
	})
	fmt.Println(errors.Is(err, found))
	// Output:
	// 8080
	// true
}

func ExampleCommand_Start() {
	p, err := spawn.New("cat").SetInput([]byte("hello\n")).SetStdout(os.Stdout).Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Status())
	// Output:
	// hello
	// exit status 0
}

func ExampleCommand_Exec() {
	err := spawn.New("login", "-f", "guest").InheritStdio().Exec()
	log.Fatal(err) // this line runs only if login could not be started
}

func ExampleCommand_SetGracePeriod() {
	p, err := spawn.New("sleep", "1000").SetGracePeriod(0).Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if err := p.Abort(); err != nil {
		log.Fatal(err)
	}
	// With a grace period it would have got SIGTERM first.
	fmt.Println(p.Status())
	// Output: signal: killed
}

// A daemon has left its parent, its group and its session, and is still found.
func ExampleCommand_SetKillMode_tree() {
	p, err := spawn.New("sh", "-c", "setsid sh -c 'echo started; sleep 1000 &' & sleep 1000").
		SetKillMode(spawn.KillTree).
		PipeStdout().
		Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	out := bufio.NewReader(p.Stdout())
	line, _ := out.ReadString('\n')
	fmt.Print(line)
	if err := p.Abort(); err != nil {
		log.Fatal(err)
	}
	_, err = out.ReadString('\n')
	fmt.Println(err)
	// Output:
	// started
	// EOF
}

func ExampleCommand_SetKillMode() {
	p, err := spawn.New("sh", "-c", "sleep 1000 & echo started; wait").
		SetKillMode(spawn.KillGroup).
		PipeStdout().
		Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	out := bufio.NewReader(p.Stdout())
	line, _ := out.ReadString('\n')
	fmt.Print(line)
	if err := p.Abort(); err != nil {
		log.Fatal(err)
	}
	_, err = out.ReadString('\n')
	// The end of the pipe: the sleep, which had it open, is gone too.
	fmt.Println(err)
	// Output:
	// started
	// EOF
}

// A running process.

func ExampleProcess_Wait() {
	p, err := spawn.New("sh", "-c", "echo 'disk full' >&2; exit 3").SetErrorBuffer(new(string)).Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	// By whoever wants to know, as often as they like.
	both := make(chan error)
	for range 2 {
		go func() { both <- p.Wait() }()
	}
	fmt.Println(<-both)
	fmt.Println(<-both)
	var exit *spawn.ExitError
	fmt.Println(errors.As(p.Wait(), &exit), exit.Status.ExitCode)
	// Output:
	// spawn: sh -c 'echo '\''disk full'\'' >&2; exit 3': exit status 3: disk full
	// spawn: sh -c 'echo '\''disk full'\'' >&2; exit 3': exit status 3: disk full
	// true 3
}

func ExampleProcess_Status() {
	p, err := spawn.New("cat").PipeStdin().Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("while it runs:", p.Status(), p.Status().ExitCode)
	p.Stdin().Close()
	<-p.Done()
	status := p.Status()
	fmt.Println("afterwards:", status)
	fmt.Println("code:", status.ExitCode, "memory:", status.MaxRSS > 0)
	// Output:
	// while it runs: exit status unknown -1
	// afterwards: exit status 0
	// code: 0 memory: true
}

func ExampleProcess_PID() {
	p, err := spawn.New("sh", "-c", "echo $$; read line").PipeStdin().PipeStdout().Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	var pid int
	fmt.Fscan(p.Stdout(), &pid)
	fmt.Println(pid == p.PID())
	fmt.Fprintln(p.Stdin(), "that is all")
	fmt.Println(p.Wait())
	p.Stdin().Close()
	p.Stdout().Close()
	// Output:
	// true
	// <nil>
}

func ExampleProcess_HandshakeWait() {
	ctx := context.Background()
	p, err := spawn.New("/bin/true").SetWorkingDirectory("/no/such/directory").RequireHandshake().Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.HandshakeWait(ctx)) // and there is no child left
	// Output: spawn: cannot start "/bin/true": chdir("/no/such/directory"): no such file or directory
}

func ExampleProcess_HandshakeNotify() {
	ctx := context.Background()
	p, err := spawn.New("/no/such/program").RequireHandshake().Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	// All is applied, and the program not yet looked at.
	fmt.Println(p.HandshakeWait(ctx))
	fmt.Println(p.HandshakeNotify())
	// Output:
	// <nil>
	// spawn: cannot start "/no/such/program": execve("/no/such/program"): no such file or directory
}

func ExampleProcess_Signal() {
	p, err := spawn.New("sleep", "1000").Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Wait())
	// No other process can be hit, even if it has the pid by now.
	fmt.Println(p.Signal(syscall.SIGKILL))
	// Output:
	// spawn: sleep 1000: signal: killed
	// os: process already finished
}

func ExampleProcess_Abort() {
	p, err := spawn.New("sleep", "1000").Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Abort())
	fmt.Println(p.Status())
	// Output:
	// <nil>
	// signal: terminated
}

func ExampleProcess_Done() {
	p, err := spawn.New("sh", "-c", "exit 0").Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	select {
	case <-p.Done():
		fmt.Println(p.Status().Success())
	case <-time.After(time.Minute):
		fmt.Println("still running")
	}
	// Output: true
}

func ExampleStatus() {
	for _, script := range []string{"exit 0", "exit 7", "kill -KILL $$"} {
		status, err := spawn.New("sh", "-c", script).RunStatus(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(status.Success(), status.ExitCode, int(status.Signal), status)
	}
	// Output:
	// true 0 0 exit status 0
	// false 7 0 exit status 7
	// false -1 9 signal: killed
}

// Errors.

func ExampleStartError() {
	err := spawn.New("/usr/bin/frobnicate").SetWorkingDirectory("/").Run(context.Background())
	var start *spawn.StartError
	if errors.As(err, &start) {
		fmt.Println(start.Op)
	}
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// execve("/usr/bin/frobnicate")
	// true
}

func ExampleStartError_notInPath() {
	err := spawn.Run(context.Background(), "frobnicate")
	fmt.Println(errors.Is(err, exec.ErrNotFound))
	fmt.Println(err)
	// Output:
	// true
	// spawn: cannot start "frobnicate": search in PATH: executable file not found in $PATH
}

func ExampleExitError() {
	err := spawn.Run(context.Background(), "sh", "-c", "echo first >&2; echo last >&2; exit 3")
	var exit *spawn.ExitError
	if errors.As(err, &exit) {
		fmt.Printf("%d %q\n", exit.Status.ExitCode, exit.Stderr)
	}
	// Output: 3 "first\nlast\n"
}

// handOver gives a file to the program's user, as long as it still may, and
// says so on a descriptor that the program gets too.
var handOver = spawn.RegisterHook("hand-over", func(arg string) error {
	var uid int
	var path string
	if _, err := fmt.Sscan(arg, &uid, &path); err != nil {
		return err
	}
	if err := os.Chown(path, uid, -1); err != nil {
		return err
	}
	_, err := syscall.Write(3, []byte("ready\n"))
	return err
})

func ExampleCommand_SetPreExecHook() {
	file, err := os.CreateTemp("", "") // mode 0600
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	fmt.Fprintln(file, "for the program")
	file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 65534, 65534 // nobody, who may not change owners
	}
	out, err := spawn.New("cat", file.Name()).
		SetUID(uid).SetGID(gid).
		PassFDAs(w, 3, spawn.CloseParent).
		SetPreExecHook(handOver, fmt.Sprint(uid, " ", file.Name())).
		Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	said, _ := io.ReadAll(r)
	r.Close()
	fmt.Printf("%s%s", said, out)
	// Output:
	// ready
	// for the program
}

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
