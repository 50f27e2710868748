//go:build linux

package run_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/gocapability/capability"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

// Attacks by tracing: somebody who may trace a child must have no hold on this
// process by it. A child is held at each of its system calls, and attacked
// there by all means.

func init() {
	testkit.Helpers["trace"] = trace
	testkit.Helpers["traced"] = traced
	testkit.Helpers["traced-exec"] = tracedExec
	testkit.Helpers["traced-caps"] = tracedCaps
	testkit.Helpers["traced-container"] = tracedContainer
}

// processSecret is what nobody may read. A process that has one makes it up.
var processSecret [16]byte

func addressOfSecret() int64 { return int64(uintptr(unsafe.Pointer(&processSecret))) }

// madeUp makes up this process's secret, and says where and what it is.
func madeUp() string {
	_, _ = rand.Read(processSecret[:]) // never fails
	return fmt.Sprintf("%d %x", addressOfSecret(), processSecret)
}

// trace attacks processes: for each line with what madeUp says, a part of the
// executable's path, a pid, and whether to trace, it prints what it could do to
// that process or any of its threads. For the pid 0 it attacks all but itself.
// With an argument, it first mounts a /proc of its own.
func trace(args []string) int {
	if len(args) > 0 {
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			fmt.Println("no /proc:", err)
			return 0
		}
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var address uintptr
		var secret, executable string
		var pid int
		var seize bool
		if _, err := fmt.Sscan(lines.Text(), &address, &secret, &executable, &pid, &seize); err != nil {
			return testkit.Fail(err)
		}
		var could []string
		for _, tid := range threads(pid) {
			could = append(could, abuse(tid, address, secret, executable, seize)...)
		}
		fmt.Println(strings.Join(could, " "))
	}
	return 0
}

// threads returns the threads of a process, or of all but this.
func threads(pid int) (tids []int) {
	pids := []int{pid}
	if pid == 0 {
		pids = numbers("/proc", os.Getpid())
	}
	for _, pid := range pids {
		tids = append(tids, numbers(fmt.Sprintf("/proc/%d/task", pid), 0)...)
	}
	return tids
}

// numbers returns the names in a directory that are numbers, but for one.
func numbers(dir string, but int) (ns []int) {
	entries, _ := os.ReadDir(dir) // the process may have ended
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n != but {
			ns = append(ns, n)
		}
	}
	return ns
}

// abuse returns what could be done to a thread. With seize it traces it until
// this process ends.
func abuse(tid int, address uintptr, secret, executable string, seize bool) (could []string) {
	b := make([]byte, len(processSecret))
	add := func(what string, err error) {
		if err == nil {
			could = append(could, what)
		}
		if hex.EncodeToString(b) == secret {
			could = append(could, "SECRET")
		}
		clear(b)
	}
	proc := fmt.Sprintf("/proc/%d/", tid)
	mem, err := os.OpenFile(proc+"mem", os.O_RDWR, 0)
	if err == nil {
		_, _ = mem.ReadAt(b, int64(address))
		mem.Close()
	}
	add("open", err)
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	_, err = unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: address, Len: len(b)}}, 0)
	if err == unix.EFAULT { // nothing is there, but it may be read
		err = nil
	}
	add("read", err)
	exe, err := os.Readlink(proc + "exe")
	add("see", err)
	maps, _ := os.ReadFile(proc + "maps")
	if strings.Contains(exe, executable) || bytes.Contains(maps, []byte(executable)) {
		could = append(could, "EXECUTABLE")
	}
	if seize {
		add("trace", unix.PtraceSeize(tid))
	}
	return could
}

// tracer is a process that attacks others.
type tracer struct {
	*spawn.Process
	r    *bufio.Reader
	text string
	// all has it attack all that it sees; looks has it only look at them.
	all, looks bool
	ended      bool // by a success
}

// newTracer starts a command that runs the helper trace, for this process's
// secret and executable.
func newTracer(c *spawn.Command, all bool) (*tracer, error) {
	p, err := c.PipeStdin().PipeStdout().SetStderr(os.Stderr).Start(context.Background())
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	t := &tracer{Process: p, r: bufio.NewReader(p.Stdout()), text: madeUp() + " " + exe, all: all}
	line, err := t.r.ReadString('\n')
	if err == nil && line != "ready\n" {
		err = fmt.Errorf("%w: %s", errors.ErrUnsupported, strings.TrimSpace(line))
	}
	return t, err
}

// attack attacks a process and returns what could be done.
func (t *tracer) attack(pid int) (could string, err error) {
	if t.all {
		pid = 0
	}
	if _, err := fmt.Fprintln(t.Stdin(), t.text, pid, !t.looks); err != nil {
		return "", err
	}
	line, err := t.r.ReadString('\n')
	return strings.TrimSpace(line), err
}

// end ends the tracer, and lets go what it traces.
func (t *tracer) end() error {
	return errors.Join(t.Stdin().Close(), t.Wait(), t.Stdout().Close())
}

// traced is an ordinary process that may be traced. It says where its secret
// is, and what its executable is.
func traced([]string) int {
	exe, err := os.Executable()
	if err != nil {
		return testkit.Fail(err)
	}
	fmt.Println(madeUp(), exe)
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}

// canTrace shows that an attack works: on an ordinary process that c starts.
func canTrace(c *spawn.Command, t *tracer) error {
	p, err := c.PipeStdin().PipeStdout().Start(context.Background())
	if err != nil {
		return err
	}
	text, err := bufio.NewReader(p.Stdout()).ReadString('\n')
	if err != nil {
		return err
	}
	ours := t.text
	t.text = strings.TrimSpace(text)
	could, err := t.attack(p.PID())
	t.text = ours
	for _, what := range []string{"open", "SECRET", "read", "see", "EXECUTABLE", "trace"} {
		if !strings.Contains(could, what) {
			err = errors.Join(err, fmt.Errorf("the attack no longer works: %q", could))
		}
	}
	err = errors.Join(err, t.end())
	_ = testkit.StopLive(p) // it may have ended with its namespace
	return err
}

// shortVariable tells a helper that its test is short.
const shortVariable = "SPAWN_TEST_SHORT"

// runTraced runs a command in all ways, and has each of its children attacked
// at each step. allowed are attacks that are no harm.
func runTraced(h *testkit.Holder, name string, t *tracer, start func() error, allowed ...string) error {
	if t.ended {
		return nil
	}
	every := 8
	switch {
	case os.Getenv("SPAWN_TEST_LONG") != "":
		every = 1
	case os.Getenv(shortVariable) != "":
		every = 32
	}
	steps, last := 0, uint32(0)
	err := h.Run(start, func(pid int, call uint32) error {
		// Most calls stand in rows.
		again := call == last
		steps, last = steps+1, call
		if t.ended || again && steps%every != 0 {
			return nil
		}
		could, err := t.attack(pid)
		var bad []string
		for _, what := range strings.Fields(could) {
			if !strings.Contains(strings.Join(allowed, " "), what) {
				bad = append(bad, what)
			}
		}
		if err != nil || bad != nil {
			t.ended = true
			fmt.Fprintf(os.Stderr, "%s: step %d, call %d: %q\n", name, steps, call, bad)
			exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
			// The child goes on when nobody traces it.
			return errors.Join(fmt.Errorf("at step %d, call %d, of %s: %q", steps, call, exe, bad), err, t.Abort())
		}
		return nil
	})
	if err == nil && steps < 10 {
		err = fmt.Errorf("only %d steps", steps)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return err
}

// startOf returns the start of a command.
func startOf(c *spawn.Command) func() error {
	ctx := context.Background()
	if !testkit.Wanted(c).Handshake {
		return func() error { return c.Run(ctx) }
	}
	return func() error {
		p, err := c.Start(ctx)
		if err != nil {
			return err
		}
		return errors.Join(p.HandshakeWait(ctx), p.HandshakeNotify(), p.Wait())
	}
}

// byEach returns the command for each executor that there is here.
func byEach(c func() *spawn.Command) map[string]*spawn.Command {
	return map[string]*spawn.Command{
		"by a stub":         c(),
		"with a handshake":  c().RequireHandshake(),
		"by a copy":         testkit.WithoutStub(c()),
		"by a helper":       testkit.By(c(), plan.ChildAndHelper),
		"by copy, helper":   testkit.WithoutStub(testkit.By(c(), plan.ChildAndHelper)),
		"with a hook":       c().SetPreExecHook(hookNothing, ""),
		"with both of them": c().SetPreExecHook(hookNothing, "").RequireHandshake(),
	}
}

var hookNothing = spawn.RegisterHook("nothing", func(string) error { return nil })

// needsTracing skips where nobody may trace processes of his own.
func needsTracing(t *testing.T) {
	t.Helper()
	if scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(scope)) != "0" {
		t.Skip("needs a kernel that lets users trace their own processes (Yama)")
	}
}

// publicTiny returns a program that only exits, for other users too.
func publicTiny(t *testing.T) string {
	program := testkit.TinyProgram(t)
	makePublic(t, program)
	return program
}

// makePublic lets every user run a program of the test's.
func makePublic(t *testing.T, program string) {
	for path := program; len(path) > len(os.TempDir()); path = filepath.Dir(path) {
		require.NoError(t, os.Chmod(path, 0o755))
	}
}

// runTracedHelper runs a helper as root, or as who the command makes it.
func runTracedHelper(t *testing.T, as func(*spawn.Command) *spawn.Command, name string, args ...string) {
	testkit.NeedsClone(t)
	needsTracing(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	if testing.Short() {
		t.Setenv(shortVariable, "1")
	}
	program := testkit.CopySelf(t)
	require.NoError(t, os.Chmod(program, 0o755))
	c := spawn.New(program, append([]string{testkit.HelperPrefix + name, program, publicTiny(t)}, args...)...)
	// a child that is traced may stop
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, err := as(c).SetKillMode(spawn.KillTree).CombinedOutput(ctx)
	require.NoError(t, err, "%s", out)
	if why, ok := strings.CutPrefix(string(out), "skip: "); ok {
		t.Skip("needs " + why)
	}
	require.Equal(t, "good\n", string(out))
}

// A process of the same user that has no capabilities, or fewer, may trace
// a child that has given up its own.
func TestAttackOnAChildThatGivesUpCapabilities(t *testing.T) {
	testkit.NeedsRoot(t, "to have capabilities")
	for name, as := range map[string]func(*spawn.Command) *spawn.Command{
		"of root": func(c *spawn.Command) *spawn.Command { return c },
		"of an ordinary user": func(c *spawn.Command) *spawn.Command {
			kept := []capability.Cap{capability.CAP_KILL, capability.CAP_SETPCAP}
			return c.SetUID(testkit.Nobody).SetGID(testkit.Nobody).AllowCap(kept...).SetAmbientCaps(kept...)
		},
	} {
		t.Run(name, func(t *testing.T) { runTracedHelper(t, as, "traced-caps") })
	}
}

func tracedCaps(args []string) int {
	self, tiny := args[0], args[1]
	helper := func(name string, args ...string) *spawn.Command {
		return spawn.New(self, append([]string{testkit.HelperPrefix + name}, args...)...)
	}
	testkit.SetDumpableFlag(1) // as it is of most
	for range 2 {
		control, err := newTracer(helper("trace").ClearCaps(), false)
		if err == nil {
			err = canTrace(helper("traced").ClearCaps(), control)
		}
		if err != nil {
			return testkit.Fail(err)
		}
	}
	t, err := newTracer(helper("trace").ClearCaps(), false)
	if err != nil {
		return testkit.Fail(err)
	}
	if could, err := t.attack(os.Getpid()); err != nil || could != "" {
		return testkit.Fail(fmt.Errorf("this process itself: %q %w", could, err))
	}
	h, err := testkit.NewHolder(testkit.ChildCalls...)
	if err != nil {
		return testkit.Fail(err)
	}
	attack := func(name string, c *spawn.Command) error { return runTraced(h, name, t, startOf(c)) }
	cleared := func() *spawn.Command { return spawn.New(tiny).SetWorkingDirectory("/").ClearCaps() }
	var errs []error
	for name, c := range byEach(cleared) {
		errs = append(errs, attack(name, c))
	}
	tinyCommand := func() *spawn.Command { return spawn.New(tiny).SetWorkingDirectory("/") }
	for name, c := range map[string]*spawn.Command{
		"AllowCap":           tinyCommand().AllowCap(capability.CAP_KILL),
		"SetSecurebits":      cleared().SetSecurebits(1),
		"with no_new_privs":  cleared().SetNoNewPrivs(),
		"of the same ids":    cleared().SetUID(os.Getuid()).SetGID(os.Getgid()),
		"what gives up none": tinyCommand(),
	} {
		if os.Geteuid() == 0 || name != "SetSecurebits" {
			errs = append(errs, attack(name, c))
		}
	}
	// The thread that runs the program in place of this process.
	errs = append(errs, runTraced(h, "Exec", t, startOf(helper("traced-exec", tiny))))
	if err := errors.Join(append(errs, t.end())...); err != nil {
		return testkit.Fail(err)
	}
	fmt.Println("good")
	return 0
}

// tracedExec gives up its capabilities and execs.
func tracedExec(args []string) int {
	return testkit.Fail(spawn.New(args[0]).SetWorkingDirectory("/").ClearCaps().Exec())
}

// The class of CVE-2016-9962: root of a container traces a child that joins it,
// and so has what the child has had outside.
func TestAttackByRootOfANamespaceThatIsJoined(t *testing.T) {
	testkit.NeedsRoot(t, "to map other ids")
	testkit.NeedsUserNamespaces(t)
	all := []string{"user pid mnt", "pid mnt", "user", "user pid", "pid"}
	if testing.Short() {
		all = all[:2]
	}
	for _, kinds := range all {
		t.Run(kinds, func(t *testing.T) {
			runTracedHelper(t, func(c *spawn.Command) *spawn.Command { return c }, "traced-container", strings.Fields(kinds)...)
		})
	}
}

// containerRoot is root of a container: 100000 outside.
var containerRoot = spawn.IDMap{ContainerID: 0, HostID: 100000, Size: 65536}

func tracedContainer(args []string) int {
	self, tiny, names := args[0], args[1], " "+strings.Join(args[2:], " ")+" "
	var kinds []spawn.Namespace
	has := func(name string) bool { return strings.Contains(names, " "+name+" ") }
	files := map[spawn.Namespace]*os.File{}
	for kind, name := range testkit.AllKinds {
		if has(name) {
			kinds = append(kinds, kind)
		}
	}
	testkit.SetDumpableFlag(1)
	container := func() (*tracer, error) {
		c := spawn.New(self, testkit.HelperPrefix+"trace")
		fresh := kinds
		if has("pid") {
			c.AddArg("own /proc")
			if !has("mnt") {
				fresh = append(fresh[:len(fresh):len(fresh)], spawn.MountNamespace)
			}
		}
		if c.SetNamespaces(fresh...); has("user") {
			c.SetUIDMap(containerRoot).SetGIDMap(containerRoot).SetUID(0).SetGID(0)
		} else {
			// What Docker gives a container, and what its debuggers ask for.
			c.AllowCap(capability.CAP_CHOWN, capability.CAP_DAC_OVERRIDE, capability.CAP_FSETID, capability.CAP_FOWNER, capability.CAP_MKNOD,
				capability.CAP_NET_RAW, capability.CAP_SETGID, capability.CAP_SETUID, capability.CAP_SETFCAP, capability.CAP_SETPCAP,
				capability.CAP_NET_BIND_SERVICE, capability.CAP_SYS_CHROOT, capability.CAP_KILL, capability.CAP_AUDIT_WRITE, capability.CAP_SYS_PTRACE,
				capability.CAP_SYS_ADMIN) // for its own /proc
		}
		return newTracer(c, has("pid"))
	}
	join := func(c *spawn.Command) *spawn.Command {
		for _, kind := range kinds {
			c.JoinNamespace(kind, files[kind])
		}
		if has("user") {
			c.SetUID(0).SetGID(0)
		}
		return c
	}
	enter := func() (t *tracer, err error) {
		if t, err = container(); err != nil {
			return nil, err
		}
		for _, kind := range kinds {
			if files[kind], err = os.Open(fmt.Sprintf("/proc/%d/ns/%s", t.PID(), testkit.AllKinds[kind])); err != nil {
				return nil, err
			}
		}
		return t, nil
	}
	control, err := enter()
	if errors.Is(err, errors.ErrUnsupported) {
		fmt.Print("skip: a /proc that a container may mount: ", err)
		return 0
	}
	if err == nil {
		err = canTrace(join(spawn.New(self, testkit.HelperPrefix+"traced")), control)
	}
	if err != nil {
		return testkit.Fail(err)
	}
	t, err := enter()
	if err != nil {
		return testkit.Fail(err)
	}
	h, err := testkit.NewHolder(testkit.ChildCalls...)
	if err != nil {
		return testkit.Fail(err)
	}
	var allowed []string
	if !has("user") {
		// Until it has dropped them the child has all capabilities, and root
		// with CAP_SYS_PTRACE may do that to it. This process is not it.
		allowed, t.looks = []string{"open", "read", "see"}, true
	}
	var errs []error
	for name, c := range byEach(func() *spawn.Command { return join(spawn.New(tiny).SetWorkingDirectory("/")) }) {
		if has("user") && testkit.Wanted(c).Hook != "" {
			var call *spawn.CallError
			if err := c.Run(context.Background()); !errors.As(err, &call) {
				errs = append(errs, fmt.Errorf("%s: not refused: %w", name, err))
			}
			continue
		}
		if has("pid") && strings.Contains(name, "copy") {
			// That root might look at the copy of this process.
			if err := c.Run(context.Background()); !errors.Is(err, errors.ErrUnsupported) {
				errs = append(errs, fmt.Errorf("%s: not refused: %w", name, err))
			}
			continue
		}
		errs = append(errs, runTraced(h, name, t, startOf(c), allowed...))
	}
	if err := errors.Join(append(errs, t.end())...); err != nil {
		return testkit.Fail(err)
	}
	fmt.Println("good")
	return 0
}

// Nobody may trace a child that waits at its gate, for an ordinary user too.
func TestAttackOnAChildAtItsGate(t *testing.T) {
	testkit.NeedsClone(t)
	needsTracing(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	attacker := func() *tracer {
		c := testkit.HelperCommand(t, "trace")
		if os.Geteuid() == 0 {
			c.ClearCaps()
		}
		a, err := newTracer(c, false)
		require.NoError(t, err)
		return a
	}
	victim := testkit.HelperCommand(t, "traced")
	if os.Geteuid() == 0 {
		victim.ClearCaps()
	}
	require.NoError(t, canTrace(victim, attacker()))
	for name, c := range byEach(func() *spawn.Command {
		if os.Geteuid() == 0 {
			return spawn.New("/bin/cat").ClearCaps().RequireHandshake()
		}
		return spawn.New("/bin/cat").RequireHandshake()
	}) {
		a := attacker()
		p := testkit.Gated(t, c)
		could, err := a.attack(p.PID())
		require.NoError(t, errors.Join(err, a.end(), p.Abort()), name)
		require.Empty(t, could, name)
		<-p.Done()
	}
}
