package testkit

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
)

// BenchEnv is the environment of the programs of benchmarks.
var BenchEnv = []string{"PATH=/usr/bin:/bin", "LANG=C"}

// BySpawn returns a command for a program as the benchmarks run it, with
// a few attributes.
func BySpawn(path string, args ...string) *spawn.Command {
	ours := spawn.New(path, args...).SetUmask(0o027).SetMaxFiles(1024).SetMaxCoreSize(0).SetProcessGroup()
	for _, v := range BenchEnv {
		ours.AddEnvString(v)
	}
	return ours
}

// Compare runs both sides b.N times in turn and reports the medians and
// their ratio.
func Compare(b *testing.B, theirs, ours func() error) {
	b.Helper()
	CompareAfter(b, func() {}, theirs, ours)
}

// CompareAfter is Compare with something to do, untimed, before each run.
func CompareAfter(b *testing.B, before func(), theirs, ours func() error) {
	b.Helper()
	CompareBatches(b, 1, before, theirs, ours)
}

// CompareBatches is CompareAfter with more than one run of a side in turn.
func CompareBatches(b *testing.B, size int, before func(), theirs, ours func() error) {
	b.Helper()
	var t, o []time.Duration
	for _, f := range []func() error{theirs, ours} { // warm up
		before()
		require.NoError(b, f())
	}
	b.ResetTimer()
	for len(o) < b.N {
		n := min(size, b.N-len(o))
		for range n {
			before()
			t = append(t, Timed(b, theirs))
		}
		for range n {
			before()
			o = append(o, Timed(b, ours))
		}
	}
	b.StopTimer()
	report(b, Median(t), Median(o))
}

// report reports the medians of both sides, and their ratio.
func report(b *testing.B, theirs, ours time.Duration) {
	b.ReportMetric(0, "ns/op") // of both together: says nothing
	b.ReportMetric(float64(theirs)/1e3, "os-exec-µs")
	b.ReportMetric(float64(ours)/1e3, "spawn-µs")
	b.ReportMetric(float64(ours)/float64(theirs), "spawn/os-exec")
}

// Timed calls f and returns how long that took.
func Timed(b *testing.B, f func() error) time.Duration {
	start := time.Now()
	err := f()
	d := time.Since(start)
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// Median returns the median. It sorts d.
func Median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// RunOurs returns a function that runs a program as BySpawn says.
func RunOurs(path string, args ...string) func() error {
	return func() error { ours := BySpawn(path, args...); return ours.Run(context.Background()) }
}
