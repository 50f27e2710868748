package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func titles(found []bootable) []string {
	var titles []string
	for i := range found {
		titles = append(titles, found[i].title())
	}
	return titles
}

func TestFindMatchesVersionsAndNames(t *testing.T) {
	cache := t.TempDir()
	writeFile(t, 0o644, cache, "old-amd64", "vmlinuz-5.10.0-1-cloud-amd64")
	writeFile(t, 0o644, cache, "new-arm64", "vmlinuz-6.1.0-2-cloud-arm64")
	all := []machine{
		{name: "old-amd64", arch: "amd64", kernel: "old-amd64/vmlinuz-*"},
		{name: "new-arm64", arch: "arm64", kernel: "new-arm64/vmlinuz-*"},
		{name: "new-arm64-selinux", arch: "arm64", kernel: "new-arm64/vmlinuz-*", variant: "selinux"},
		{name: "missing-amd64", arch: "amd64", kernel: "missing-amd64/vmlinuz-*"},
	}
	const (
		old     = "5.10.0-1-cloud-amd64"
		arm     = "6.1.0-2-cloud-arm64"
		selinux = "6.1.0-2-cloud-arm64/selinux"
	)
	for pattern, want := range map[string][]string{
		"*":         {old, arm, selinux, "missing-amd64"},
		"5.10*":     {old},
		"*arm64":    {arm, selinux},
		"*/selinux": {selinux},
		"*-selinux": {selinux},
		"missing-*": {"missing-amd64"},

		"*-selinux 5.10*": {old, selinux},
		"old-* 5.10*":     {old},
	} {
		found, err := find(all, cache, pattern)
		require.NoError(t, err, pattern)
		assert.Equal(t, want, titles(found), pattern)
	}
}

func TestFindFailsWhenNothingMatches(t *testing.T) {
	_, err := find(machines(), t.TempDir(), "2.6*")
	assert.ErrorContains(t, err, `matches "2.6*"`)
	_, err = find(machines(), t.TempDir(), "[")
	assert.ErrorContains(t, err, "-kernels [")
	_, err = find(machines(), t.TempDir(), "*-amd64-selinux 2.6* *arm46*")
	assert.ErrorContains(t, err, `matches "*arm46* 2.6*"`)
	_, err = find(machines(), t.TempDir(), " ")
	assert.Error(t, err)
}

func TestEveryMachineIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range machines() {
		assert.False(t, seen[m.name], "two machines are named %s", m.name)
		seen[m.name] = true
		assert.Contains(t, platforms, m.arch)
		assert.Contains(t, m.kernel, "vmlinuz-")
	}
}

func TestQemuArgsNameKernelAndParameters(t *testing.T) {
	b := &bootable{
		machine: machine{arch: "arm64", params: []string{"security=selinux", "selinux=1"}},
		vmlinuz: filepath.Join("cache", "vmlinuz-6.1"),
	}
	line := strings.Join(qemuArgs(b, "initrd", "console.log"), " ")
	assert.Contains(t, line, "-kernel "+b.vmlinuz+" -initrd initrd")
	assert.Contains(t, line, "console=ttyAMA0")
	assert.True(t, strings.HasSuffix(line, "rdinit=/init security=selinux selinux=1"), line)
}
