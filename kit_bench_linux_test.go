package spawn

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// benchEnv is the environment of the programs.
var benchEnv = []string{"PATH=/usr/bin:/bin", "LANG=C"}

// bySpawn returns how to run it with spawn.
func bySpawn(path string, args ...string) *Command {
	ours := New(path, args...).SetUmask(0o027).SetMaxFiles(1024).SetMaxCoreSize(0).SetProcessGroup()
	for _, v := range benchEnv {
		ours.AddEnvString(v)
	}
	return ours
}

// compare runs both sides b.N times in turn and reports the medians and their ratio.
func compare(b *testing.B, theirs, ours func() error) {
	b.Helper()
	compareAfter(b, func() {}, theirs, ours)
}

// compareAfter is compare with something to do, untimed, before each run.
func compareAfter(b *testing.B, before func(), theirs, ours func() error) {
	b.Helper()
	compareBatches(b, 1, before, theirs, ours)
}

// compareBatches is compareAfter with more than one run of a side in turn.
func compareBatches(b *testing.B, size int, before func(), theirs, ours func() error) {
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
			t = append(t, timed(b, theirs))
		}
		for range n {
			before()
			o = append(o, timed(b, ours))
		}
	}
	b.StopTimer()
	report(b, median(t), median(o))
}

func report(b *testing.B, theirs, ours time.Duration) {
	b.ReportMetric(0, "ns/op") // of both together: says nothing
	b.ReportMetric(float64(theirs)/1e3, "os-exec-µs")
	b.ReportMetric(float64(ours)/1e3, "spawn-µs")
	b.ReportMetric(float64(ours)/float64(theirs), "spawn/os-exec")
}

func timed(b *testing.B, f func() error) time.Duration {
	start := time.Now()
	err := f()
	d := time.Since(start)
	if err != nil {
		b.Fatal(err)
	}
	return d
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func runOurs(path string, args ...string) func() error {
	return func() error { ours := bySpawn(path, args...); return ours.Run(context.Background()) }
}
