//go:build linux

package run_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/gocapability/capability"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

// TestAllExecutorsDoTheSame: random commands give the same process, or the
// same error, whoever runs them. With SPAWN_TEST_COMMANDS in the environment it
// tries this number of commands, all of them by helpers too.
func TestAllExecutorsDoTheSame(t *testing.T) {
	testkit.NeedsClone(t)
	testkit.CheckLeaks(t)
	rounds, all := testkit.Rounds(500, 100), false
	if testing.Short() {
		rounds = 30
	}
	if s := os.Getenv("SPAWN_TEST_COMMANDS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		rounds, all = n, true
	}
	program := publicWaiting(t)
	file, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer file.Close()
	seed := rand.Uint64()
	if s := os.Getenv("SPAWN_TEST_SEED"); s != "" {
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("SPAWN_TEST_SEED=%d", seed)
	started := 0
	for i := range rounds {
		g := &generator{rand.New(rand.NewPCG(seed, uint64(i))), program, file}
		c := g.command()
		want, wantErr := stateOf(c.Clone())
		if wantErr == nil {
			started++
		}
		for name, by := range executors(c) {
			if name != "stub" && name != "copy" && i%5 != 0 && !all {
				continue // a helper takes its time
			}
			got, err := stateOf(by(c.Clone()))
			if errors.Is(err, errors.ErrUnsupported) && !errors.Is(wantErr, errors.ErrUnsupported) {
				continue
			}
			require.Equal(t, errorText(wantErr), errorText(err), "command %d, by %s: %s", i, name, described(c))
			require.Empty(t, only(got, want), "command %d, by %s, but not without: %s\n%s", i, name, only(want, got), described(c))
			require.Empty(t, only(want, got), "command %d, not by %s: %s", i, name, described(c))
		}
	}
	require.Greater(t, started, rounds/2, "most commands are to start")
}

// publicWaiting returns a program that waits for its input, for other
// users too.
func publicWaiting(t *testing.T) string {
	path := testkit.WaitingProgram(t)
	makePublic(t, path)
	return path
}

// executors are those who can run a command, but for who would by itself.
func executors(c *spawn.Command) map[string]func(*spawn.Command) *spawn.Command {
	by := func(e plan.Executor) func(*spawn.Command) *spawn.Command {
		return func(c *spawn.Command) *spawn.Command { return testkit.By(c, e) }
	}
	all := map[string]func(*spawn.Command) *spawn.Command{
		"stub":          by(plan.Stub),
		"copy":          func(c *spawn.Command) *spawn.Command { return testkit.WithoutStub(testkit.By(c, plan.Stub)) },
		"helper":        by(plan.ChildAndHelper),
		"forked helper": by(plan.ForkedHelper),
	}
	return all
}

// number is one in an error, such as a descriptor's.
var number = regexp.MustCompile(`\b\d+\b`)

// errorText returns an error's text without numbers, which are those of
// descriptors in the child, too.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	return number.ReplaceAllString(err.Error(), "N")
}

// described is a command's calls, but for those that all have.
func described(c *spawn.Command) string {
	text, err := c.Explain()
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "rt_sigaction(") || strings.Contains(line, "SIG_IGN") {
			b.WriteString(line)
		}
	}
	return fmt.Sprint(c, "\n", b.String(), err)
}

// only returns what is in a and not in b.
func only(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// generator makes random commands.
type generator struct {
	*rand.Rand
	program string
	file    *os.File
}

// command returns a command with a few attributes.
func (g *generator) command() *spawn.Command {
	c := spawn.New(g.program)
	choices := g.choices()
	if os.Geteuid() == 0 {
		choices = append(choices, g.ofRoot()...)
	}
	for _, n := range g.Perm(len(choices))[:g.IntN(8)] {
		choices[n](c)
	}
	return c
}

func (g *generator) choices() []func(c *spawn.Command) {
	return []func(c *spawn.Command){
		func(c *spawn.Command) { c.AddArg(strings.Repeat("x", g.IntN(5000))) },
		func(c *spawn.Command) { c.SetArgv0("name") },
		func(c *spawn.Command) { c.AddEnv("A", strings.Repeat("y", g.IntN(5000))) },
		func(c *spawn.Command) { c.AddEnvPassAll() },
		func(c *spawn.Command) { c.SetWorkingDirectory([]string{"/", "/proc", "/usr"}[g.IntN(3)]) },
		func(c *spawn.Command) {
			if g.IntN(8) == 0 {
				c.SetWorkingDirectory("/nonexistent")
			}
		},
		func(c *spawn.Command) { c.SetUmask(g.IntN(0o1000)) },
		func(c *spawn.Command) { c.SetMaxFiles(uint64(20 + g.IntN(500))) },
		func(c *spawn.Command) { c.SetMaxCoreSize(uint64(g.IntN(1000))) },
		func(c *spawn.Command) { c.SetRlimit(unix.RLIMIT_STACK, 1<<20, 8<<20) },
		func(c *spawn.Command) { c.SetRlimit(unix.RLIMIT_FSIZE, uint64(g.IntN(1<<20)), 1<<20) },
		func(c *spawn.Command) { c.SetSession() },
		func(c *spawn.Command) { c.SetProcessGroup() },
		func(c *spawn.Command) { c.SetKillMode(spawn.KillGroup) },
		func(c *spawn.Command) { c.SetKillMode(spawn.KillTree) },
		func(c *spawn.Command) { c.SetNice(5 + g.IntN(15)) },
		func(c *spawn.Command) { c.SetCPUAffinity(0) },
		func(c *spawn.Command) { c.SetTimerSlack(time.Duration(1 + g.IntN(1e6))) },
		func(c *spawn.Command) { c.SetIOPriority(spawn.IOPriorityBestEffort, g.IntN(8)) },
		func(c *spawn.Command) { c.SetNoNewPrivs() },
		func(c *spawn.Command) {
			c.SetLandlock(spawn.Landlock{BestEffort: true, Paths: []spawn.LandlockPath{{Path: "/", Rights: spawn.LandlockReadOnly}}})
		},
		func(c *spawn.Command) {
			c.SetSeccompFilter(testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 10+g.IntN(100)))
		},
		func(c *spawn.Command) {
			// Not those of faults, of which a Go runtime, in a helper,
			// takes care.
			few := [...]unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM}
			c.SetIgnoredSignals(few[g.IntN(len(few))], unix.SIGWINCH, unix.Signal(34+g.IntN(30)))
		},
		func(c *spawn.Command) { c.SetParentDeathSignal(unix.SIGTERM) },
		func(c *spawn.Command) { c.SetPersonality(spawn.PersonalityLinux32) },
		func(c *spawn.Command) { c.SetTransparentHugepages(false) },
		func(c *spawn.Command) { c.SetMemoryDenyWriteExecute() },
		func(c *spawn.Command) { c.SetOOMScoreAdj(500 + g.IntN(500)) },
		func(c *spawn.Command) { c.SetCoredumpFilter(uint32(g.IntN(256))) },
		func(c *spawn.Command) { c.SetKeyring(spawn.KeyringPrivate) },
		func(c *spawn.Command) { c.PassFDAs(g.file, 3+g.IntN(20)) },
		func(c *spawn.Command) { c.PassFDAs(g.file, 100+g.IntN(200)) },
		func(c *spawn.Command) { c.SetSendBuffer([]byte("sent")) },
		func(c *spawn.Command) { c.MergeStderr() },
		func(c *spawn.Command) { c.RequireHandshake() },
		func(c *spawn.Command) { c.AddListenFD(g.file, "name") },
	}
}

func (g *generator) ofRoot() []func(c *spawn.Command) {
	some := func() []capability.Cap {
		return []capability.Cap{capability.Cap(g.IntN(plan.LastCap() + 1)), capability.Cap(g.IntN(plan.LastCap() + 1))}
	}
	return []func(c *spawn.Command){
		func(c *spawn.Command) { c.SetUID(g.IntN(70000)).SetGID(g.IntN(70000)) },
		func(c *spawn.Command) { c.SetUID(testkit.Nobody).SetGID(testkit.Nobody) },
		func(c *spawn.Command) { c.SetGroups(g.IntN(70000), g.IntN(70000)) },
		func(c *spawn.Command) { c.SetGroups() },
		func(c *spawn.Command) { c.ClearCaps() },
		func(c *spawn.Command) { c.AllowCap(some()...) },
		func(c *spawn.Command) { caps := some(); c.AllowCap(caps...).SetAmbientCaps(caps...) },
		func(c *spawn.Command) { c.SetBoundingCaps(some()...) },
		func(c *spawn.Command) { c.SetSecurebits(1) },
		func(c *spawn.Command) { c.SetNice(-g.IntN(20)) },
		func(c *spawn.Command) { c.SetOOMScoreAdj(-g.IntN(1000)) },
		func(c *spawn.Command) { c.SetChroot("/proc/self/root") },
		func(c *spawn.Command) { c.SetNamespaces(spawn.UTSNamespace, spawn.IPCNamespace) },
		func(c *spawn.Command) { c.SetNamespaces(spawn.MountNamespace, spawn.PIDNamespace) },
		func(c *spawn.Command) {
			if testkit.HasUserNamespaces() {
				testkit.InUserNamespace(c)
			}
		},
	}
}

// stateOf starts a program that waits, and returns all that can be seen of it.
func stateOf(c *spawn.Command) (state []string, err error) {
	ctx := context.Background()
	p, err := c.PipeStdin().Start(ctx)
	if err != nil {
		return nil, err
	}
	if testkit.Wanted(c).Handshake {
		// as Wait says
		_ = errors.Join(p.HandshakeWait(ctx), p.HandshakeNotify())
	}
	waitForProgram(p, testkit.Wanted(c).Name)
	state = look(p.PID())
	_ = p.Stdin().Close()
	if err := p.Wait(); err != nil {
		return nil, err
	}
	return state, nil
}

// waitForProgram waits until /proc shows the program, or it has ended.
func waitForProgram(p *spawn.Process, program string) {
	proc := fmt.Sprintf("/proc/%d/", p.PID())
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		exe, _ := os.Readlink(proc + "exe")
		cmdline, _ := os.ReadFile(proc + "cmdline")
		if exe == program && len(cmdline) > 0 {
			return
		}
		select {
		case <-p.Done():
			return
		default:
		}
	}
}

// changing are the fields of proc_pid_status(5) that are another process's in
// another one, or may be at another time.
var changing = []string{
	"FDSize", "Tgid", "Ngid", "Pid", "NStgid", "NSpid", "NSpgid", "NSsid", "SigQ", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches", "State",
}

// treeCgroup is the cgroup of a KillTree.
var treeCgroup = regexp.MustCompile(`/spawn-\d+-[0-9a-f]+\b`)

// look returns what can be seen of a process.
func look(pid int) (state []string) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	add := func(name, text string) { state = append(state, name+": "+strings.TrimSpace(text)) }
	text := func(name string) string {
		b, err := os.ReadFile(proc + name)
		return string(b) + testkit.Say(err)
	}
	for line := range strings.Lines(text("status")) {
		name, value, _ := strings.Cut(line, ":")
		if !slices.Contains(changing, name) && !strings.HasPrefix(name, "Vm") && !strings.HasPrefix(name, "Rss") {
			add(name, value)
		}
	}
	for _, name := range []string{
		"limits", "oom_score_adj", "coredump_filter", "personality", "environ", "cmdline", "timerslack_ns", "cgroup", "setgroups", "uid_map", "gid_map",
	} {
		// Two of them are each process's own.
		text := strings.ReplaceAll(text(name), "LISTEN_PID="+strconv.Itoa(pid), "LISTEN_PID=its own")
		add(name, treeCgroup.ReplaceAllString(text, "/its own"))
	}
	_, rest, _ := strings.Cut(text("stat"), ") ")
	if stat := strings.Fields(rest); len(stat) > 38 {
		// Counted from the state, which proc_pid_stat(5) calls the third.
		add("nice, priority, policy", fmt.Sprint(stat[16], stat[37], stat[38]))
		for i, name := range []string{"pgrp", "session"} {
			id := stat[2+i]
			if id == strconv.Itoa(pid) {
				id = "its own"
			}
			add(name, id)
		}
		add("terminal", stat[4])
	}
	for _, name := range []string{"cwd", "root", "exe"} {
		target, err := os.Readlink(proc + name)
		add(name, target+testkit.Say(err))
	}
	for _, name := range testkit.AllKinds {
		ours, _ := os.Readlink("/proc/self/ns/" + name)
		theirs, err := os.Readlink(proc + "ns/" + name)
		add(name+" namespace is ours", fmt.Sprint(ours == theirs, testkit.Say(err)))
	}
	entries, _ := os.ReadDir(proc + "fd")
	for _, e := range entries {
		target, _ := os.Readlink(proc + "fd/" + e.Name())
		target, _, _ = strings.Cut(target, ":[") // a pipe's number
		flags := testkit.StatusField(text("fdinfo/"+e.Name()), "flags")
		add("descriptor "+e.Name(), target+" "+flags)
	}
	var st unix.Stat_t
	_ = unix.Stat(proc+"environ", &st)
	add("owner, as dumpable", fmt.Sprint(st.Uid, st.Gid))
	const ofProcess = 1 // IOPRIO_WHO_PROCESS
	priority, _, _ := unix.Syscall(unix.SYS_IOPRIO_GET, ofProcess, uintptr(pid), 0)
	add("I/O priority", fmt.Sprint(priority))
	slices.Sort(state)
	return state
}
