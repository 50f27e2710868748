package spawntest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/spawntest"
)

// mkfs is code under test.
func mkfs(ctx context.Context, device, label string) error {
	if err := spawn.New("wipefs", "--all", device).Run(ctx); err != nil {
		return fmt.Errorf("wipe: %w", err)
	}
	return spawn.New("mkfs.ext4", "-q", "-L", label, device).Run(ctx)
}

func ExampleNew() {
	_ = func(t *testing.T) { // in a file of tests: func TestMkfs(t *testing.T)
		ctx, script := spawntest.New(t)
		script.Expect("wipefs", "--all", "/dev/sdx")
		script.Expect("mkfs.ext4", "-q", "-L", spawntest.Regexp("[a-z]+"), spawntest.Rest).
			Stderr("mkfs.ext4: Device or resource busy\n").Exit(1)
		err := mkfs(ctx, "/dev/sdx", "data")
		if err == nil || !strings.Contains(err.Error(), "busy") {
			t.Errorf("mkfs: %v", err)
		}
	}
}

func ExampleRecord() {
	_ = func(t *testing.T) {
		ctx := spawntest.Record(t, "testdata/sort.golden")
		out, err := spawn.New("sort", "-n").AddEnvPassCommon().AddEnv("LC_ALL", "C").SetInput([]byte("10\n9\n")).Output(ctx)
		if err != nil || string(out) != "9\n10\n" {
			t.Errorf("%q, %v", out, err)
		}
	}
}

func ExampleScript_Expect() {
	_ = func(t *testing.T) {
		ctx, script := spawntest.New(t, spawntest.AnyOrder(), spawntest.Hide("my password"))
		script.Expect("cryptsetup", "open", spawntest.Any, "disk").Stdin("my password").NoEnv("PASSWORD").Dir("")
		script.Expect("udevadm", "settle").AnyTimes()
		script.Expect("frobnicated", spawntest.Rest).Stdout("ready\n").Runs()
		_ = ctx // for the code under test
	}
}

// A recorded run, as it is replayed: see testdata/sort.golden.
func TestASortedListIsReplayed(t *testing.T) {
	ctx := spawntest.Record(t, "testdata/sort.golden")
	out, err := spawn.New("sort", "-n").AddEnvPassCommon().AddEnv("LC_ALL", "C").SetInput([]byte("10\n9\n")).Output(ctx)
	if err != nil || string(out) != "9\n10\n" {
		t.Errorf("%q, %v", out, err)
	}
}
