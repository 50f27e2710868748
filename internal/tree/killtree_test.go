//go:build linux

package tree_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"github.com/virspawn/spawn/internal/tree"
	"golang.org/x/sys/unix"
)

func init() {
	testkit.Helpers["tree-of-nobody"] = treeOfNobody
	testkit.Helpers["tree-without-proc"] = treeWithoutProc
}

// treeWays make KillTree find a command's descendants in each of its ways.
var treeWays = map[string]func(t testing.TB, c *spawn.Command) *spawn.Command{
	"cgroup": func(t testing.TB, c *spawn.Command) *spawn.Command { return c.SetCgroup(testkit.NewCgroup(t)) },
	"subreaper": func(t testing.TB, c *spawn.Command) *spawn.Command {
		if os.Geteuid() != 0 {
			return c
		}
		return c.SetCgroup(barrenCgroup(t))
	},
}

// barrenCgroup makes a cgroup below which there can be none.
func barrenCgroup(t testing.TB) string {
	dir := testkit.NewCgroup(t)
	require.NoError(t, os.WriteFile(dir+"/cgroup.max.descendants", []byte("0"), 0))
	return dir
}

// inBothTrees runs a test for each way. It gets a function that makes a command
// one of that way, and checks that it is.
func inBothTrees(t *testing.T, f func(t *testing.T, with func(*spawn.Command) *spawn.Command)) {
	for name, way := range treeWays {
		t.Run(name, func(t *testing.T) {
			p, err := way(t, spawn.New("/bin/cat").SetKillMode(spawn.KillTree).PipeStdin()).Start(context.Background())
			require.NoError(t, err)
			testkit.Running(p).Mu.Lock()
			uses := testkit.Tree(p).UsesCgroup()
			testkit.Running(p).Mu.Unlock()
			require.NoError(t, p.Stdin().Close())
			require.NoError(t, p.Wait())
			if uses && name != "cgroup" {
				t.Skip("a cgroup can be made here")
			}
			require.Equal(t, name == "cgroup", uses)
			f(t, func(c *spawn.Command) *spawn.Command { return way(t, c.SetKillMode(spawn.KillTree)) })
		})
	}
}

// dynasty is a script with a child and a daemon, which has its own session and
// group and no parent. All keep descriptor 3 open. $1 is for the descendants,
// $2 for the program itself.
const dynasty = `$2; ($1; setsid sh -c '(echo ready >&4; exec sleep 1000 4>&-) &' & sleep 1000 4>&- & wait $!) & wait; exit 5`

func newDynasty(descendants, program string) *spawn.Command {
	return testkit.Shell(strings.NewReplacer("$1", descendants, "$2", program).Replace(dynasty))
}

// requireAllEnded waits for the end of all that have the other end of the pipe.
func requireAllEnded(t testing.TB, alive *os.File) {
	t.Helper()
	require.NoError(t, alive.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, err := alive.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "all have ended")
}

// hasEnded reports whether nobody has the other end of the pipe any more,
// without waiting.
func hasEnded(alive *os.File) bool {
	return testkit.Polled(alive, unix.POLLIN)&unix.POLLHUP != 0
}

func TestKillTreeEndsDaemonsToo(t *testing.T) {
	const ignore = "trap '' TERM"
	for name, test := range map[string]struct {
		descendants, program string
		grace                time.Duration
		code                 int
		signal               unix.Signal
	}{
		"all end on SIGTERM":        {":", ":", time.Hour, 0, unix.SIGTERM},
		"the descendants ignore it": {ignore, "trap 'exit 7' TERM", time.Hour, 7, 0},
		"all ignore it":             {ignore, ignore, 20 * time.Millisecond, 0, unix.SIGKILL},
		"without a grace period":    {":", ":", 0, 0, unix.SIGKILL},
		"the program is killed":     {ignore, "trap 'kill -9 $$' TERM", time.Hour, 0, unix.SIGKILL},
	} {
		t.Run(name, func(t *testing.T) {
			inBothTrees(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
				testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					c := with(newDynasty(test.descendants, test.program)).SetGracePeriod(test.grace)
					alive, ready := testkit.PassPipe(t, c, 3), testkit.PassPipe(t, c, 4)
					_, err := testkit.During(call, c, ctx, func() {
						require.Equal(t, "ready", testkit.ReadLine(t, ready))
						cancel()
					})
					require.ErrorIs(t, err, context.Canceled)
					require.True(t, hasEnded(alive), "when the call returns, all have ended")
					if test.signal != 0 {
						testkit.RequireSignal(t, err, test.signal)
					} else {
						testkit.RequireExit(t, err, test.code)
					}
				})
			})
		})
	}
}

func TestAStoppedTreeIsEnded(t *testing.T) {
	inBothTrees(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		testkit.CheckLeaks(t)
		for _, grace := range []time.Duration{0, time.Hour} {
			c := with(newDynasty(":", ":").SetProcessGroup()).SetGracePeriod(grace)
			alive, ready := testkit.PassPipe(t, c, 3), testkit.PassPipe(t, c, 4)
			p, err := c.Start(context.Background())
			require.NoError(t, err)
			require.Equal(t, "ready", testkit.ReadLine(t, ready))
			require.NoError(t, unix.Kill(-p.PID(), unix.SIGSTOP))
			testkit.Eventually(t, "the child has stopped", func() bool { return testkit.ProcessState(p.PID()) == 'T' })
			require.NoError(t, p.Abort())
			require.True(t, hasEnded(alive))
		}
	})
}

func TestKillTreeHandlesManyAtOnce(t *testing.T) {
	inBothTrees(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		testkit.CheckLeaks(t)
		var wg sync.WaitGroup
		for i := range 20 {
			c := with(newDynasty("trap '' TERM", ":")).SetGracePeriod(time.Duration(i%2) * time.Hour)
			alive, ready := testkit.PassPipe(t, c, 3), testkit.PassPipe(t, c, 4)
			wg.Add(1)
			go func() {
				defer wg.Done()
				p, err := c.Start(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = ready.Read(make([]byte, 8))
				if err := p.Abort(); err != nil || plan.CanClone() && !hasEnded(alive) {
					t.Error("not all have ended", err)
				}
				// A helper that package syscall is forking has a copy of
				// everything, until it execs.
				if _, err := alive.Read(make([]byte, 1)); err != io.EOF {
					t.Error(err)
				}
			}()
		}
		wg.Wait()
	})
}

// forkingProgram writes a program that waits for all below it, orphans too,
// which so are no concern of process 1. Its first child forks and ends, and so
// does its child, and that one's, each in a session of its own. That happens
// 20,000 times: not all pids, should nobody wait for them. There are never more
// than a few, but their pids run away. The last one, or one that cannot fork,
// says so on descriptor 3. It returns its path.
func forkingProgram(t testing.TB) string {
	return testkit.WriteProgram(t, "fork", map[string][]byte{
		"amd64": {
			0xbf, 36, 0, 0, 0, // mov edi, PR_SET_CHILD_SUBREAPER
			0xbe, 1, 0, 0, 0, // mov esi, 1
			0xb8, 157, 0, 0, 0, // mov eax, SYS_prctl
			0x0f, 0x05, // syscall
			0xbb, 0x20, 0x4e, 0, 0, // mov ebx, 20000
			0xb8, 57, 0, 0, 0, // mov eax, SYS_fork
			0x0f, 0x05, // syscall
			0x85, 0xc0, // test eax, eax
			0x74, 0x20, // je chain
			// reap:
			0x48, 0x83, 0xcf, 0xff, // or rdi, -1
			0x31, 0xf6, // xor esi, esi
			0x31, 0xd2, // xor edx, edx
			0x45, 0x31, 0xd2, // xor r10d, r10d
			0xb8, 61, 0, 0, 0, // mov eax, SYS_wait4
			0x0f, 0x05, // syscall
			0x48, 0x85, 0xc0, // test rax, rax
			0x79, 0xe9, // jns reap
			0xb8, 34, 0, 0, 0, // mov eax, SYS_pause
			0x0f, 0x05, // syscall
			0xeb, 0xe0, // jmp reap
			// chain:
			0xb8, 112, 0, 0, 0, // mov eax, SYS_setsid
			0x0f, 0x05, // syscall
			0xff, 0xcb, // dec ebx
			0x74, 0x0d, // je last
			0xb8, 57, 0, 0, 0, // mov eax, SYS_fork
			0x0f, 0x05, // syscall
			0x85, 0xc0, // test eax, eax
			0x74, 0xea, // je chain
			0x79, 0x16, // jns done
			// last:
			0xb8, 1, 0, 0, 0, // mov eax, SYS_write
			0xbf, 3, 0, 0, 0, // mov edi, 3
			0xbe, 0, 0, 0x40, 0, // mov esi, the start of this file
			0xba, 1, 0, 0, 0, // mov edx, 1
			0x0f, 0x05, // syscall
			// done:
			0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
			0x31, 0xff, // xor edi, edi
			0x0f, 0x05, // syscall
		},
		"arm64": {
			0xe8, 0x14, 0x80, 0xd2, // mov x8, SYS_prctl
			0x80, 0x04, 0x80, 0xd2, // mov x0, PR_SET_CHILD_SUBREAPER
			0x21, 0x00, 0x80, 0xd2, // mov x1, 1
			0x01, 0x00, 0x00, 0xd4, // svc 0
			0x13, 0xc4, 0x89, 0xd2, // mov x19, 20000
			0x88, 0x1b, 0x80, 0xd2, // mov x8, SYS_clone
			0x20, 0x02, 0x80, 0xd2, // mov x0, SIGCHLD
			0xe1, 0x03, 0x1f, 0xaa, // mov x1, xzr
			0xe2, 0x03, 0x1f, 0xaa, // mov x2, xzr
			0xe3, 0x03, 0x1f, 0xaa, // mov x3, xzr
			0xe4, 0x03, 0x1f, 0xaa, // mov x4, xzr
			0x01, 0x00, 0x00, 0xd4, // svc 0
			0xe0, 0x01, 0x00, 0xb4, // cbz x0, chain
			// reap:
			0x00, 0x00, 0x80, 0x92, // mov x0, -1
			0xe1, 0x03, 0x1f, 0xaa, // mov x1, xzr
			0xe2, 0x03, 0x1f, 0xaa, // mov x2, xzr
			0xe3, 0x03, 0x1f, 0xaa, // mov x3, xzr
			0x88, 0x20, 0x80, 0xd2, // mov x8, SYS_wait4
			0x01, 0x00, 0x00, 0xd4, // svc 0
			0x40, 0xff, 0xff, 0xb6, // tbz x0, 63, reap
			0xe0, 0x03, 0x1f, 0xaa, // mov x0, xzr
			0xe1, 0x03, 0x1f, 0xaa, // mov x1, xzr
			0xe2, 0x03, 0x1f, 0xaa, // mov x2, xzr
			0xe3, 0x03, 0x1f, 0xaa, // mov x3, xzr
			0x28, 0x09, 0x80, 0xd2, // mov x8, SYS_ppoll
			0x01, 0x00, 0x00, 0xd4, // svc 0
			0xf3, 0xff, 0xff, 0x17, // b reap
			// chain:
			0xa8, 0x13, 0x80, 0xd2, // mov x8, SYS_setsid
			0x01, 0x00, 0x00, 0xd4, // svc 0
			0x73, 0x06, 0x00, 0xf1, // subs x19, x19, 1
			0x40, 0x01, 0x00, 0x54, // b.eq last
			0x88, 0x1b, 0x80, 0xd2, // mov x8, SYS_clone
			0x20, 0x02, 0x80, 0xd2, // mov x0, SIGCHLD
			0xe1, 0x03, 0x1f, 0xaa, // mov x1, xzr
			0xe2, 0x03, 0x1f, 0xaa, // mov x2, xzr
			0xe3, 0x03, 0x1f, 0xaa, // mov x3, xzr
			0xe4, 0x03, 0x1f, 0xaa, // mov x4, xzr
			0x01, 0x00, 0x00, 0xd4, // svc 0
			0xa0, 0xfe, 0xff, 0xb4, // cbz x0, chain
			0xc0, 0x00, 0xf8, 0xb6, // tbz x0, 63, done
			// last:
			0x08, 0x08, 0x80, 0xd2, // mov x8, SYS_write
			0x60, 0x00, 0x80, 0xd2, // mov x0, 3
			0x01, 0x08, 0xa0, 0xd2, // mov x1, the start of this file
			0x22, 0x00, 0x80, 0xd2, // mov x2, 1
			0x01, 0x00, 0x00, 0xd4, // svc 0
			// done:
			0xa8, 0x0b, 0x80, 0xd2, // mov x8, SYS_exit
			0xe0, 0x03, 0x1f, 0xaa, // mov x0, xzr
			0x01, 0x00, 0x00, 0xd4, // svc 0
		},
	})
}

// lastPID returns the pid that was given last. (/proc/loadavg)
func lastPID(t testing.TB) int {
	f := strings.Fields(testkit.ReadFile(t, "/proc/loadavg"))
	pid, err := strconv.Atoi(f[len(f)-1])
	require.NoError(t, err)
	return pid
}

// startForking starts the program and waits until the pids run away.
func startForking(t testing.TB, ctx context.Context, c *spawn.Command) (p *spawn.Process, alive *os.File) {
	alive = testkit.PassPipe(t, c, 3)
	before := lastPID(t)
	p, err := c.Start(ctx)
	require.NoError(t, err)
	testkit.Eventually(t, "the pids run away", func() bool { n := lastPID(t) - before; return n > 50 || n < 0 })
	require.False(t, hasEnded(alive))
	return p, alive
}

func TestKillTreeEndsAProgramThatForksAsHardAsItCan(t *testing.T) {
	program := forkingProgram(t)
	inBothTrees(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		for name, attributes := range map[string]func(*spawn.Command) *spawn.Command{
			"with SIGTERM":           func(c *spawn.Command) *spawn.Command { return c.SetGracePeriod(time.Hour) },
			"without a grace period": func(c *spawn.Command) *spawn.Command { return c.SetGracePeriod(0) },
			"that ignores SIGTERM": func(c *spawn.Command) *spawn.Command {
				return c.SetGracePeriod(10 * time.Millisecond).SetIgnoredSignals(unix.SIGTERM)
			},
			"and waits for no child": func(c *spawn.Command) *spawn.Command { return c.SetGracePeriod(0).SetIgnoredSignals(unix.SIGCHLD) },
		} {
			t.Run(name, func(t *testing.T) {
				testkit.CheckLeaks(t)
				came := 0
				for range testkit.Rounds(10, 2) {
					ctx, cancel := context.WithCancel(context.Background())
					p, alive := startForking(t, ctx, attributes(with(spawn.New(program))))
					start := time.Now()
					cancel()
					require.ErrorIs(t, p.Wait(), context.Canceled)
					require.True(t, hasEnded(alive), "all have ended")
					if n, _ := alive.Read(make([]byte, 1)); n > 0 {
						came++
					}
					require.NotContains(t, p.Status().String(), "exit")
					t.Log(time.Since(start))
				}
				require.LessOrEqual(t, came, 1, "programs that came to their last process; the machine may stand still for a second")
			})
		}
	})
}

// withoutKillFile makes the tree of a process as one before Linux 5.14.
func withoutKillFile(p *spawn.Process) {
	testkit.Running(p).Mu.Lock()
	defer testkit.Running(p).Mu.Unlock()
	t := testkit.Tree(p)
	descriptor.Close(t.KillFile)
	t.KillFile = -1
}

func TestKillTreeWithoutCgroupKillFreezes(t *testing.T) {
	testkit.CheckLeaks(t)
	c := spawn.New(forkingProgram(t)).SetKillMode(spawn.KillTree).SetCgroup(testkit.NewCgroup(t)).SetGracePeriod(0)
	p, alive := startForking(t, context.Background(), c)
	withoutKillFile(p)
	require.NoError(t, p.Abort())
	require.True(t, hasEnded(alive))
}

// A program that is left alone by its parent, says on descriptor 4 that it is
// there, and ends with descriptor 3.
const abandoned = `(setsid sh -c 'echo $$ >&4; read x' <&3 & exec 3<&-); exit 3`

func TestAProgramThatEndsByItselfLeavesItsTreeAlone(t *testing.T) {
	inBothTrees(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		testkit.CheckLeaks(t)
		c := with(testkit.Shell(abandoned))
		r, to := testkit.NewPipe(t)
		from := testkit.PassPipe(t, c.PassFDAs(r, 3, spawn.CloseParent), 4)
		p, err := c.Start(context.Background())
		require.NoError(t, err)
		pid, err := strconv.Atoi(testkit.ReadLine(t, from))
		require.NoError(t, err)
		testkit.RequireExit(t, p.Wait(), 3)
		require.NoError(t, p.Abort()) // too late
		require.NotZero(t, testkit.ProcessState(pid))
		require.False(t, hasEnded(from))
		require.Len(t, transient(c), len(tree.CgroupsLeft()))

		require.NoError(t, to.Close())
		requireAllEnded(t, from)
		testkit.Eventually(t, "a later command removes the cgroup", func() bool {
			later := spawn.New("/bin/true").SetKillMode(spawn.KillTree)
			testkit.Wanted(later).Attributes = testkit.Wanted(c).Attributes
			require.NoError(t, later.Run(context.Background()))
			return len(transient(c)) == 0
		})
	})
}

// transient returns the cgroups that were made for the runs of a command that
// has a cgroup.
func transient(c *spawn.Command) []string {
	if testkit.Wanted(c).Attributes.Cgroup == "" {
		return nil
	}
	dirs, err := filepath.Glob(testkit.Wanted(c).Attributes.Cgroup + "/spawn-*")
	if err != nil {
		panic(err)
	}
	return dirs
}

func TestTheEndOfTheContextKillsWhatTheProgramHasLeftBehind(t *testing.T) {
	testkit.ForEachCall(t, func(t *testing.T, call func(*spawn.Command, context.Context) (string, error)) {
		if _, call, _ := strings.Cut(t.Name(), "/"); call == "Lines" || call == "Records" || call == "RunRegex" {
			t.Skip("it reads from a pipe, and the process is done when the program has ended")
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := testkit.Shell("setsid sh -c 'echo early; echo ready >&4; exec sleep 1000 4>&-' & exit 3").SetKillMode(spawn.KillTree).SetCgroup(testkit.NewCgroup(t))
		alive, ready := testkit.PassPipe(t, c, 3), testkit.PassPipe(t, c, 4)
		out, err := testkit.During(call, c, ctx, func() {
			require.Equal(t, "ready", testkit.ReadLine(t, ready))
			testkit.WaitForNoChild(t)
			cancel()
		})
		require.ErrorIs(t, err, context.Canceled)
		testkit.RequireExit(t, err, 3)
		require.Equal(t, "early\n", out)
		requireAllEnded(t, alive)
		require.Empty(t, transient(c))
	})
}

func TestKillTreeLeavesNoCgroup(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := testkit.NewCgroup(t)
	text := testkit.DataFile(t, []byte("not a program"))
	require.NoError(t, os.Chmod(text, 0o755))
	for name, c := range map[string]*spawn.Command{
		"success":        spawn.New("/bin/true"),
		"no directory":   spawn.New("/bin/true").SetWorkingDirectory("/nonexistent"),
		"no program":     spawn.New("/bin/nonexistent"),
		"bad program":    spawn.New(text),
		"a bad pid file": spawn.New("/bin/true").SetPidFile("/nonexistent/pid"),
		"a handshake":    spawn.New("/bin/true").RequireHandshake(),
		"nested":         testkit.Shell(`for d in "$1"/spawn-*; do mkdir -p "$d/sub/sub" && echo $$ > "$d/sub/sub/cgroup.procs" && kill -9 $$; done`, dir),
	} {
		t.Run(name, func(t *testing.T) {
			c.SetKillMode(spawn.KillTree).SetCgroup(dir)
			if p, err := c.Start(context.Background()); err == nil {
				err = p.Wait()
				require.Equal(t, name == "success", err == nil, "%v", err)
				if name == "nested" {
					testkit.RequireSignal(t, err, unix.SIGKILL)
				}
			}
			_, _ = c.Clone().Explain()
			require.Empty(t, transient(c))
			require.Empty(t, tree.CgroupsLeft())
		})
	}
}

func TestARelativeCgroupIsNotTakenFromPWD(t *testing.T) {
	dir := testkit.NewCgroup(t)
	link := t.TempDir() + "/link"
	require.NoError(t, os.Symlink(dir, link))
	t.Chdir(dir)
	t.Setenv("PWD", link)
	var made tree.Tree
	require.True(t, made.MakeCgroup("."))
	defer os.Remove(made.Cgroup)
	require.Equal(t, dir, filepath.Dir(made.Cgroup))
}

func TestKillTreeEndsWhatIsInCgroupsBelow(t *testing.T) {
	for _, kill := range []bool{true, false} {
		testkit.CheckLeaks(t)
		dir := testkit.NewCgroup(t)
		c := testkit.Shell(`for d in "$1"/spawn-*; do mkdir "$d/sub"; (echo 0 > "$d/sub/cgroup.procs"; echo ready >&4; exec sleep 1000 4>&-) & done; wait`, dir)
		alive, ready := testkit.PassPipe(t, c, 3), testkit.PassPipe(t, c, 4)
		p, err := c.SetKillMode(spawn.KillTree).SetCgroup(dir).Start(context.Background())
		require.NoError(t, err)
		require.Equal(t, "ready", testkit.ReadLine(t, ready))
		if !kill {
			withoutKillFile(p)
		}
		require.NoError(t, p.Abort())
		require.True(t, hasEnded(alive))
		require.Empty(t, transient(c))
	}
}

func TestKillTreeRemovesOnlyStaleCgroups(t *testing.T) {
	dir := testkit.NewCgroup(t)
	ended := testkit.WaitingIn(t, spawn.New("/bin/cat")).PID()
	stale, living, other := dir+fmt.Sprintf("/spawn-%d-1", lastPID(t)+1<<22), dir+fmt.Sprintf("/spawn-%d-1", ended), dir+"/spawn-other"
	for _, d := range []string{stale, stale + "/sub", living, other} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	require.NoError(t, spawn.New("/bin/true").SetKillMode(spawn.KillTree).SetCgroup(dir).Run(context.Background()))
	require.NoDirExists(t, stale)
	require.NoError(t, os.Remove(living))
	require.NoError(t, os.Remove(other))
}

func TestTheChildIsASubreaperOnlyWithoutACgroup(t *testing.T) {
	const op = "prctl(PR_SET_CHILD_SUBREAPER, 1)"
	inBothTrees(t, func(t *testing.T, with func(*spawn.Command) *spawn.Command) {
		c := with(spawn.New("/bin/true"))
		text, err := c.Explain()
		require.NoError(t, err)
		require.Equal(t, strings.HasSuffix(t.Name(), "subreaper"), strings.Contains(text, op))
		text, err = c.SetKillMode(spawn.KillGroup).Explain()
		require.NoError(t, err)
		require.NotContains(t, text, op)
	})
}

func TestAnotherProcessWithTheSamePIDIsSpared(t *testing.T) {
	p := testkit.WaitingIn(t, spawn.New("/bin/cat"))
	ppid, start, err := tree.MemberStat(p.PID())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), ppid)
	require.True(t, tree.IsSameProcess(p.PID(), start))
	require.False(t, tree.IsSameProcess(p.PID(), start+"1"))
	require.True(t, tree.HasEndedSince(p.PID(), start+"1"))
	// The program must live on: testkit.WaitingIn wants it to succeed.
	tree.SignalIfSame(p.PID(), start+"1", unix.SIGKILL)
	// Nor does one become a member that is no child of one.
	q := testkit.WaitingIn(t, spawn.New("/bin/cat"))
	tr := tree.NewTree(p.PID())
	tr.AddFor(theChild{p}, q.PID())
	require.Len(t, tr.MemberPIDs(), 1)
}

// theChild is a process as a tree sees it.
type theChild struct{ *spawn.Process }

func (c theChild) ChildPID() int { return c.PID() }

func (c theChild) Signal(sig syscall.Signal) error { return c.Process.Signal(sig) }

// TestTheNewestProcessIsStopped although its parent is no member, but only
// below one; not if it is below none. It is looked for in a pid namespace of
// the test's own, where nobody else starts anything.
func TestTheNewestProcessIsStopped(t *testing.T) {
	const inside = "SPAWN_TEST_NEWEST"
	if os.Getenv(inside) == "" {
		// The shell is the process 1, whose children orphans become.
		c := spawn.New("/bin/sh", "-c", `"$@"; exit $?`, "sh", testkit.Self(t), "-test.run=^"+t.Name()+"$", "-test.v").AddEnvPassAll().AddEnv(inside, "1")
		c.SetNamespaces(spawn.UserNamespace, spawn.PIDNamespace, spawn.MountNamespace)
		c.SetUIDMap(spawn.IDMap{HostID: os.Getuid(), Size: 1}).SetGIDMap(spawn.IDMap{HostID: os.Getgid(), Size: 1})
		out, err := c.SetUID(0).SetGID(0).CombinedOutput(context.Background())
		var start *spawn.StartError
		if errors.As(err, &start) {
			t.Skip("needs user, pid and mount namespaces: ", err)
		}
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: "+t.Name())
		return
	}
	require.NoError(t, unix.Mount("proc", "/proc", "proc", 0, ""))
	testkit.CheckLeaks(t)
	other := testkit.WaitingIn(t, spawn.New("/bin/cat"))
	testkit.Eventually(t, "it was the newest when it was looked for", func() bool {
		c := testkit.Shell("exec 4<&0; (sh -c 'echo $$ >&3; exec cat <&4' & wait) & wait").SetKillMode(spawn.KillGroup).PipeStdin()
		output := testkit.PassPipe(t, c, 3)
		p, err := c.Start(context.Background())
		require.NoError(t, err)
		pid, err := strconv.Atoi(testkit.ReadLine(t, output))
		require.NoError(t, err)

		tr := tree.NewTree(other.PID())
		tr.HuntFor(theChild{other})
		require.Len(t, tr.MemberPIDs(), 1)
		tr = tree.NewTree(p.PID())
		tr.HuntFor(theChild{p})
		found := len(tr.MemberPIDs()) > 1
		if found {
			require.Equal(t, pid, tr.MemberPIDs()[1])
			testkit.Eventually(t, "it has stopped", func() bool { return testkit.ProcessState(pid) == 'T' })
		}
		require.NoError(t, p.Abort())
		require.NoError(t, p.Stdin().Close())
		requireAllEnded(t, output)
		return found
	})
}

func TestMountsAndOwnCgroup(t *testing.T) {
	require.Equal(t, "a b\\c", tree.MountPath(`a\040b\134c`))
	testkit.NeedsRoot(t, "to be in the root of a cgroup v2")
	own := tree.OwnCgroup()
	if own == "" {
		t.Skip("needs a cgroup v2")
	}
	require.Contains(t, strings.Fields(testkit.ReadFile(t, own+"/cgroup.procs")), strconv.Itoa(os.Getpid()))
}

// Another user's program, in a cgroup of its own, of which that user may write
// what the first argument says.
func treeOfNobody(args []string) int {
	c := newDynasty("trap '' TERM", ":").SetKillMode(spawn.KillTree).SetGracePeriod(time.Hour)
	alive, aliveW, _ := os.Pipe()
	ready, readyW, _ := os.Pipe()
	c.PassFDAs(aliveW, 3, spawn.CloseParent).PassFDAs(readyW, 4, spawn.CloseParent)
	p, err := c.Start(context.Background())
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_, _ = ready.Read(make([]byte, 8))
	dir := testkit.Tree(p).Cgroup
	if err := p.Abort(); err != nil || !hasEnded(alive) {
		fmt.Println("not all have ended", err)
		return 1
	}
	fmt.Println(filepath.Dir(dir))
	if _, err := os.Stat(dir); dir != "" && err == nil {
		fmt.Println("left")
	}
	return 0
}

func TestKillTreeUsesADelegatedCgroup(t *testing.T) {
	program := testkit.CopySelf(t)
	require.NoError(t, os.Chmod(program, 0o755))
	for delegated, want := range map[bool]string{true: "", false: "."} {
		dir := testkit.NewCgroup(t)
		require.NoError(t, os.Chown(dir, testkit.Nobody, testkit.Nobody))
		if delegated {
			require.NoError(t, os.Chown(dir+"/cgroup.procs", testkit.Nobody, testkit.Nobody))
			want = dir
		} // or the clone into a new one is refused
		out, err := spawn.New(program, testkit.HelperPrefix+"tree-of-nobody").SetUID(testkit.Nobody).SetGID(testkit.Nobody).SetCgroup(dir).CombinedOutput(context.Background())
		require.NoError(t, err, "%s", out)
		require.Equal(t, want+"\n", string(out))
		require.Empty(t, transient(spawn.New("x").SetCgroup(dir)))
	}
}

// treeWithoutProc starts a command with KillTree where it cannot work.
func treeWithoutProc([]string) int {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := unix.Unmount("/proc", unix.MNT_DETACH); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(spawn.New("/bin/true").SetKillMode(spawn.KillTree).Run(context.Background()))
	return 0
}

func TestKillTreeIsRefusedWhereItCannotWork(t *testing.T) {
	testkit.NeedsRoot(t, "to unmount /proc")
	if plan.HelperForced() || !plan.CanClone() {
		t.Skip("a helper cannot work without /proc either")
	}
	out, err := testkit.HelperCommand(t, "tree-without-proc").SetNamespaces(spawn.MountNamespace).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "spawn: cannot start \"/bin/true\": KillTree without a cgroup v2: access(/proc/thread-self/children): no such file or directory\n", string(out))
}

// The child may be another one than before, which that has forked. Its pid may
// be anybody's by then.
func TestTheFirstMemberIsTheChildAsItIsNow(t *testing.T) {
	tr := tree.NewTree()
	tr.RefreshFor(os.Getppid())
	require.Equal(t, []int{os.Getppid()}, tr.MemberPIDs())
	tr.RefreshFor(os.Getpid())
	require.Equal(t, []int{os.Getpid()}, tr.MemberPIDs())
}
