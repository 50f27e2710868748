package spawntest

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// fakeTB is a test that may fail.
type fakeTB struct {
	testing.TB
	ctx context.Context

	mu       sync.Mutex
	errors   []string
	cleanups []func()
}

func (t *fakeTB) Context() context.Context { return t.ctx }
func (t *fakeTB) Helper()                  {}
func (t *fakeTB) Name() string             { return "TestFake/it is" }
func (t *fakeTB) Logf(string, ...any)      {}

func (t *fakeTB) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

func (t *fakeTB) Errorf(format string, a ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errors = append(t.errors, fmt.Sprintf(format, a...))
}

func (t *fakeTB) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.errors) > 0
}

func (t *fakeTB) Fatalf(format string, a ...any) {
	t.Errorf(format, a...)
	runtime.Goexit()
}

// lineNumber is where an expectation stands.
var lineNumber = regexp.MustCompile(`\(\w+_test\.go:\d+\)`)

// Fake is for the examples, which are another package.
var Fake = fake

// fake runs a test and returns what it has reported.
func fake(test func(t testing.TB)) string {
	ctx, cancel := context.WithCancel(context.Background())
	f := &fakeTB{ctx: ctx}
	done := make(chan bool)
	go func() {
		defer close(done)
		test(f)
	}()
	<-done
	cancel()
	for i := len(f.cleanups) - 1; i >= 0; i-- {
		f.cleanups[i]()
	}
	return lineNumber.ReplaceAllString(strings.Join(f.errors, "\n"), "(HERE)")
}
