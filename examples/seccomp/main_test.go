//go:build linux

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virspawn/spawn"
)

func TestTheFilterRefusesWhatItNames(t *testing.T) {
	dir := t.TempDir()
	if err := spawn.New("mkdir", filepath.Join(dir, "free")).Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	filter, err := filterOf([]string{"mkdir", "mkdirat"})
	if err != nil {
		t.Fatal(err)
	}
	refused := filepath.Join(dir, "refused")
	err = spawn.New("mkdir", refused).AddEnv("LC_ALL", "C").SetSeccompFilter(filter).Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "not permitted") {
		t.Fatalf("mkdir under the filter: %v", err)
	}
	if _, err := os.Stat(refused); err == nil {
		t.Fatal("mkdir made its directory")
	}
}

func TestAFilterOfNothingIsAnError(t *testing.T) {
	if _, err := filterOf([]string{"no_such_call"}); err == nil {
		t.Fatal("a filter without any call is good for nothing")
	}
}
