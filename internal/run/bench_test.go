//go:build linux

package run_test

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

// The benchmarks run os/exec and spawn in turn, in one process, and print the
// ratio of the medians: spawn/os-exec. Both sides get the same environment of
// two variables; spawn's applies a umask, two limits, a process group and the
// mass close besides, which os/exec does not.
//
//	go test -run '^$' -bench . -benchtime 2000x

// byExec returns how to run a program with os/exec.
func byExec(path string, args ...string) *exec.Cmd {
	theirs := exec.Command(path, args...)
	theirs.Env = testkit.BenchEnv
	return theirs
}

// compareBoth is testkit.Compare one run at a time, and 20 at a time, as
// a program runs that uses one of the two. What os/exec leaves behind, threads
// that are about to sleep again on another processor, counts to spawn's next
// run: the kernel then moves the new process there.
func compareBoth(b *testing.B, theirs, ours func() error) {
	b.Run("OneByOne", func(b *testing.B) { testkit.Compare(b, theirs, ours) })
	b.Run("Batches", func(b *testing.B) { testkit.CompareBatches(b, 20, func() {}, theirs, ours) })
}

func runTheirs(path string, args ...string) func() error {
	return func() error { theirs := byExec(path, args...); return theirs.Run() }
}

func outputTheirs(path string, args ...string) func() error {
	return func() error { theirs := byExec(path, args...); _, err := theirs.Output(); return err }
}

func outputOurs(path string, args ...string) func() error {
	return func() error {
		ours := testkit.BySpawn(path, args...)
		_, err := ours.Output(context.Background())
		return err
	}
}

func BenchmarkRunStatic(b *testing.B) {
	tiny := testkit.TinyProgram(b)
	compareBoth(b, runTheirs(tiny), testkit.RunOurs(tiny))
}

func BenchmarkRunTrue(b *testing.B) {
	compareBoth(b, runTheirs("/bin/true"), testkit.RunOurs("/bin/true"))
}

func BenchmarkOutputStatic(b *testing.B) {
	hello := testkit.HelloProgram(b)
	compareBoth(b, outputTheirs(hello), outputOurs(hello))
}

func BenchmarkOutputEcho(b *testing.B) {
	compareBoth(b, outputTheirs("/bin/echo", "hello"), outputOurs("/bin/echo", "hello"))
}

// BenchmarkStart is Start and Wait, without captured standard error on
// either side.
func BenchmarkStart(b *testing.B) {
	tiny := testkit.TinyProgram(b)
	testkit.Compare(b, runTheirs(tiny), func() error {
		ours := testkit.BySpawn(tiny)
		p, err := ours.Start(context.Background())
		if err != nil {
			return err
		}
		return p.Wait()
	})
}

// BenchmarkParallel runs from 8 goroutines. The ratio is of the time for the
// same number of runs: 0.5 is twice the runs per second.
func BenchmarkParallel(b *testing.B) {
	tiny := testkit.TinyProgram(b)
	const goroutines, each = 8, 25
	batch := func(run func() error) func() error {
		return func() error {
			var wg sync.WaitGroup
			errs := make(chan error, goroutines*each)
			for range goroutines {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for range each {
						errs <- run()
					}
				}()
			}
			wg.Wait()
			close(errs)
			for err := range errs {
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	testkit.Compare(b, batch(runTheirs(tiny)), batch(testkit.RunOurs(tiny)))
}

// BenchmarkManyDescriptors runs with 19,000 descriptors open in this process.
func BenchmarkManyDescriptors(b *testing.B) {
	tiny, hello := testkit.TinyProgram(b), testkit.HelloProgram(b)
	// The first start reserves low numbers.
	require.NoError(b, testkit.RunOurs(tiny)())
	const many = 19000
	var limit unix.Rlimit
	require.NoError(b, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if limit.Cur < many+100 {
		b.Skipf("RLIMIT_NOFILE is %d", limit.Cur)
	}
	for range many {
		fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(b, err)
		defer unix.Close(fd)
	}
	b.Run("Run", func(b *testing.B) { testkit.Compare(b, runTheirs(tiny), testkit.RunOurs(tiny)) })
	b.Run("Output", func(b *testing.B) { testkit.Compare(b, outputTheirs(hello), outputOurs(hello)) })
}

// BenchmarkLargeHeap compares spawn with 1 GiB of touched heap to spawn
// without, a batch with and a batch without in turn: the machine's own speed
// changes from minute to minute. The metric is with/without.
func BenchmarkLargeHeap(b *testing.B) {
	tiny := testkit.TinyProgram(b)
	b.Run("Plain", func(b *testing.B) { withLargeHeap(b, testkit.RunOurs(tiny)) })
	b.Run("Stub", func(b *testing.B) {
		testkit.NeedsRoot(b, "to change the user")
		openTo(b, tiny)
		withLargeHeap(b, confinedOurs(tiny))
	})
}

func withLargeHeap(b *testing.B, run func() error) {
	const rounds, pageSize = 10, 4096
	batch := func() (all []time.Duration) {
		for range 20 { // warm up
			require.NoError(b, run())
		}
		for range max(b.N/rounds, 1) {
			all = append(all, testkit.Timed(b, run))
		}
		return all
	}
	var with, without []time.Duration
	for range rounds {
		heap := make([]byte, 1<<30)
		for i := 0; i < len(heap); i += pageSize {
			heap[i] = 1
		}
		with = append(with, batch()...)
		runtime.KeepAlive(heap)
		heap = nil
		debug.FreeOSMemory()
		without = append(without, batch()...)
	}
	w, wo := testkit.Median(with), testkit.Median(without)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(w)/1e3, "with-µs")
	b.ReportMetric(float64(wo)/1e3, "without-µs")
	b.ReportMetric(float64(w)/float64(wo), "with/without")
}

// BenchmarkCapture captures 256 MiB through stdout, in a process that does not
// hold the memory for it yet. The ratio is of the times; the allocated bytes
// are per byte of output.
func BenchmarkCapture(b *testing.B) {
	const size = 256 << 20
	args := []string{"-c", "268435456", "/dev/zero"}
	var allocated uint64
	var before runtime.MemStats
	fresh := func() { debug.FreeOSMemory(); runtime.ReadMemStats(&before) }
	count := func(run func() ([]byte, error)) func() error {
		return func() error {
			var after runtime.MemStats
			out, err := run()
			runtime.ReadMemStats(&after)
			allocated = after.TotalAlloc - before.TotalAlloc
			if len(out) != size && err == nil {
				err = io.ErrShortWrite
			}
			return err
		}
	}
	testkit.CompareAfter(b, fresh,
		count(func() ([]byte, error) { theirs := byExec("/usr/bin/head", args...); return theirs.Output() }),
		count(func() ([]byte, error) {
			ours := testkit.BySpawn("/usr/bin/head", args...)
			return ours.Output(context.Background())
		}))
	b.ReportMetric(float64(allocated)/size, "B-allocated/B")
}

// TestARunAllocatesLittle: the building of the command included.
func TestARunAllocatesLittle(t *testing.T) {
	if plan.Forced() || !plan.CanClone() || testkit.RaceDetector || plan.CoreDumpEndsAll() {
		t.Skip("a helper, the race detector, and before Linux 5.16 a status pipe, have allocations of their own")
	}
	tiny := testkit.TinyProgram(t)
	run := func() { require.NoError(t, testkit.RunOurs(tiny)()) }
	objects, bytes := math.Inf(1), uint64(math.MaxUint64)
	for range testkit.Rounds(20, 5) {
		// The least of them has nothing that is allocated once: a thread, or
		// what the collector has emptied.
		const runs = 50
		objects = min(objects, testing.AllocsPerRun(runs, run))
		bytes = min(bytes, testkit.Allocated(func() {
			for range runs {
				run()
			}
		})/runs)
	}
	require.LessOrEqual(t, objects, 20.)
	require.LessOrEqual(t, bytes, uint64(3<<10), "bytes")
}

// BenchmarkAllocations reports the allocations of Run, the building of the
// command included.
func BenchmarkAllocations(b *testing.B) {
	tiny := testkit.TinyProgram(b)
	run := testkit.RunOurs(tiny)
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, run())
	}
}

// BenchmarkRunConfined compares confined programs with runs by os/exec, as
// root: one by a stub, with no capabilities, no_new_privs, another user and
// group and four limits, with a bare run, and with one that has another user
// and a capability, which is the nearest that os/exec has; and the same with
// a seccomp filter of 50 instructions with a bare run.
func BenchmarkRunConfined(b *testing.B) {
	testkit.NeedsRoot(b, "to change the user")
	tiny := testkit.TinyProgram(b)
	openTo(b, tiny)
	ours := confinedOurs(tiny)
	b.Run("Bare", func(b *testing.B) { testkit.Compare(b, runTheirs(tiny), ours) })
	b.Run("Credential", func(b *testing.B) {
		testkit.Compare(b, func() error {
			theirs := byExec(tiny)
			theirs.SysProcAttr = &syscall.SysProcAttr{
				Credential:  &syscall.Credential{Uid: testkit.Nobody, Gid: testkit.Nobody},
				AmbientCaps: []uintptr{unix.CAP_NET_BIND_SERVICE},
			}
			return theirs.Run()
		}, ours)
	})
	filter := testkit.FilterOf(unix.SYS_REBOOT, unix.SECCOMP_RET_ERRNO, 50)
	b.Run("Filter", func(b *testing.B) {
		testkit.Compare(b, runTheirs(tiny), func() error {
			return confined(tiny).SetSeccompFilter(filter).Run(context.Background())
		})
	})
}

// confined returns a command for a program, confined as said above.
func confined(path string) *spawn.Command {
	c := spawn.New(path).SetMaxFiles(1024).SetMaxCoreSize(0).SetMaxProcesses(64).SetMaxMemLock(0)
	for _, v := range testkit.BenchEnv {
		c.AddEnvString(v)
	}
	return c.ClearCaps().SetNoNewPrivs().SetUID(testkit.Nobody).SetGID(testkit.Nobody)
}

func confinedOurs(path string) func() error {
	return func() error { return confined(path).Run(context.Background()) }
}

// openTo lets other users run a temporary program.
func openTo(b *testing.B, path string) {
	b.Helper()
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		require.NoError(b, unix.Chmod(dir, 0o755))
	}
}

// BenchmarkHandshake compares a start with a handshake to one without; the
// ratio is with/without.
func BenchmarkHandshake(b *testing.B) {
	tiny := testkit.TinyProgram(b)
	ctx := context.Background()
	testkit.Compare(b, func() error {
		p, err := testkit.BySpawn(tiny).Start(ctx)
		if err != nil {
			return err
		}
		return p.Wait()
	}, func() error {
		p, err := testkit.BySpawn(tiny).RequireHandshake().Start(ctx)
		if err != nil {
			return err
		}
		return errors.Join(p.HandshakeWait(ctx), p.HandshakeNotify(), p.Wait())
	})
}

func init() { testkit.Helpers["nothing"] = func([]string) int { return 0 } }

// BenchmarkHelper compares a start through a helper with os/exec's start of the
// same binary, which does nothing.
func BenchmarkHelper(b *testing.B) {
	tiny, self := testkit.TinyProgram(b), testkit.Self(b)
	for name, e := range map[string]plan.Executor{"Cloned": plan.ChildAndHelper, "Forked": plan.ForkedHelper} {
		b.Run(name, func(b *testing.B) {
			testkit.Compare(b, runTheirs(self, testkit.HelperPrefix+"nothing"), func() error {
				ours := testkit.BySpawn(tiny)
				return testkit.By(ours, e).Run(context.Background())
			})
		})
	}
}
