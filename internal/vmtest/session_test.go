package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/virspawn/spawn/internal/vmtest/wire"
)

// passing and failing are what two small test binaries write.
const (
	passing = "\x16=== RUN   TestA\n    a_test.go:1: quiet\n\x16--- PASS: TestA (0.00s)\n" +
		"\x16=== RUN   TestB\n    b_test.go:2: needs\n        a unicorn\n\x16--- SKIP: TestB (0.00s)\n\x16PASS\n"
	failing = "\x16=== RUN   TestA\n\x16--- PASS: TestA (0.00s)\n" +
		"\x16=== RUN   TestBad\n    bad_test.go:3: 1 is not 2\n\x16--- FAIL: TestBad (0.00s)\n" +
		"\x16=== RUN   TestHang\npanic: test timed out\n"
)

// play reports on a machine with one package that sends these events.
func play(t *testing.T, console string, events ...wire.Event) (report string, ok bool) {
	t.Helper()
	var out bytes.Buffer
	rep := &reporter{out: &out}
	b := &bootable{machine: machine{name: "m"}, vmlinuz: "vmlinuz-6.1"}
	s := newSession(&options{}, b, build{binaries: []testBinary{{pkg: "./a"}}}, t.TempDir(), rep)
	s.boot = func(context.Context) error {
		for _, e := range events {
			s.handle(e)
		}
		return os.WriteFile(filepath.Join(s.dir, "console.log"), []byte(console), 0o644)
	}
	s.run(context.Background())
	ok = rep.close()
	return out.String(), ok
}

func ran(run int, output, status string) []wire.Event {
	return []wire.Event{
		{Kind: wire.Start, Run: run},
		{Kind: wire.Output, Run: run, Data: []byte(output)},
		{Kind: wire.End, Run: run, Status: status, Elapsed: 1500 * time.Millisecond},
	}
}

func TestReportOfTestsThatPass(t *testing.T) {
	events := append(ran(0, passing, wire.Passed), ran(1, passing, wire.Passed)...)
	report, ok := play(t, "", append(events, wire.Event{Kind: wire.Done})...)
	assert.True(t, ok)
	assert.Equal(t, `ok      kernel 6.1  ./a  root      1.5s  (1 passed, 1 skipped)
        skip TestB: b_test.go:2: needs a unicorn
ok      kernel 6.1  ./a  nobody    1.5s  (1 passed, 1 skipped)
        skip TestB: b_test.go:2: needs a unicorn
2 passed, 0 failed, 2 skipped
`, report)
}

func TestReportOfTestsThatFail(t *testing.T) {
	events := append(ran(0, passing, wire.Passed), ran(1, failing, "exit status 2")...)
	report, ok := play(t, "", append(events, wire.Event{Kind: wire.Done})...)
	assert.False(t, ok)
	_, failure, _ := strings.Cut(report, "unicorn\n")
	assert.Equal(t, `FAIL    kernel 6.1  ./a  nobody    1.5s  (1 passed, 2 failed; exit status 2)
        === RUN   TestBad
            bad_test.go:3: 1 is not 2
        --- FAIL: TestBad (0.00s)
        === RUN   TestHang
        panic: test timed out

Once more what failed:
FAIL    kernel 6.1  ./a  nobody    1.5s  (1 passed, 2 failed; exit status 2)
        === RUN   TestBad
            bad_test.go:3: 1 is not 2
        --- FAIL: TestBad (0.00s)
        === RUN   TestHang
        panic: test timed out
2 passed, 2 failed, 1 skipped
`, failure)
}

func TestReportOfAMachineThatStops(t *testing.T) {
	report, ok := play(t, "Kernel panic - not syncing\n",
		wire.Event{Kind: wire.Start}, wire.Event{Kind: wire.Output, Data: []byte("\x16=== RUN   TestA\n")})
	assert.False(t, ok)
	failures := `FAIL    kernel 6.1  ./a  root      0.0s  (0 passed, 1 failed; the machine stopped here)
        === RUN   TestA
not run kernel 6.1  ./a  nobody    0.0s  (the machine never came to it)
FAIL    kernel 6.1
        the machine stopped before its last line
        last lines of the console:
        Kernel panic - not syncing
`
	assert.Equal(t, failures+"\nOnce more what failed:\n"+failures+"0 passed, 3 failed, 0 skipped\n", report)
}

func TestReportOfAGuestThatFails(t *testing.T) {
	report, ok := play(t, "", wire.Event{Kind: wire.Problem, Data: []byte("setup: no policy")})
	assert.False(t, ok)
	assert.Contains(t, report, "guest: setup: no policy")
	assert.Contains(t, report, "not run kernel 6.1  ./a  root")
}

func TestBinaryThatEndsWithoutAVerdictFails(t *testing.T) {
	events := append(ran(0, "", wire.Passed), ran(1, passing, wire.Passed)...)
	report, ok := play(t, "", append(events, wire.Event{Kind: wire.Done})...)
	assert.False(t, ok)
	assert.Contains(t, report, "the tests did not say that they passed")
}

func TestNothingRunIsAFailure(t *testing.T) {
	empty := "\x16testing: warning: no tests to run\n\x16PASS\n"
	events := append(ran(0, empty, wire.Passed), ran(1, empty, wire.Passed)...)
	report, ok := play(t, "", append(events, wire.Event{Kind: wire.Done})...)
	assert.False(t, ok)
	assert.Contains(t, report, "no test was run")
}

func TestOutputCannotPassForAResult(t *testing.T) {
	fake := "\x16=== RUN   TestA\n--- FAIL: TestA (0.00s)\nFAIL\nok\n\x16--- PASS: TestA (0.00s)\n\x16PASS\n"
	s, err := summarize(context.Background(), []byte(fake))
	require.NoError(t, err)
	assert.True(t, s.ok)
	assert.Equal(t, 1, s.passed)
	assert.Zero(t, s.failed)
}

func TestClipKeepsBothEnds(t *testing.T) {
	text := strings.Repeat("x\n", 100)
	assert.Equal(t, strings.TrimSpace(text), clip(text, 100))
	clipped := clip("first\n"+text+"last\n", 9)
	lines := strings.Split(clipped, "\n")
	assert.Len(t, lines, 10)
	assert.Equal(t, "first", lines[0])
	assert.Equal(t, "[93 lines left out: -keep keeps all]", lines[6])
	assert.Equal(t, "last", lines[9])
}
