package main

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/virspawn/spawn/internal/vmtest/wire"
)

func writeFile(t *testing.T, perm os.FileMode, elem ...string) string {
	t.Helper()
	name := filepath.Join(elem...)
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(filepath.Base(name)), perm))
	return name
}

// packed builds a file system with two packages and an extra file.
func packed(t *testing.T, job *wire.Job) map[string]entry {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, 0o755, dir, "cache", "busybox-arm64")
	writeFile(t, 0o600, dir, "cache", "policy.bin")
	writeFile(t, 0o600, dir, "src", "child", "testdata", "deep", "secret")
	if runtime.GOOS != "windows" {
		require.NoError(t, os.Symlink("deep/secret", filepath.Join(dir, "src", "child", "testdata", "link")))
	}
	binaries := []testBinary{
		{pkg: ".", dir: filepath.Join(dir, "src"), path: writeFile(t, 0o755, dir, "root.test")},
		{pkg: "./child", dir: filepath.Join(dir, "src", "child"), path: writeFile(t, 0o755, dir, "child.test")},
	}
	m := &machine{arch: "arm64", files: map[string]string{"/etc/selinux/policy": "policy.bin"}}
	file := filepath.Join(dir, "initramfs")
	guest := writeFile(t, 0o755, dir, "guest")
	require.NoError(t, writeInitramfs(file, filepath.Join(dir, "cache"), m, guest, binaries, job))
	archive, err := os.ReadFile(file)
	require.NoError(t, err)

	entries := map[string]entry{}
	for _, e := range readCpio(t, archive) {
		if parent := path.Dir(e.name); parent != "." {
			assert.Contains(t, entries, parent, "must stand before %s", e.name)
		}
		assert.NotContains(t, entries, e.name)
		entries[e.name] = e
	}
	return entries
}

func TestInitramfsHoldsWhatAGuestNeeds(t *testing.T) {
	job := &wire.Job{Setup: []string{"true"}, Runs: []wire.Run{{Dir: "/src/child"}}}
	entries := packed(t, job)
	for name, data := range map[string]string{
		"init":                           "guest",
		"bin/busybox":                    "busybox-arm64",
		"src/test":                       "root.test",
		"src/child/test":                 "child.test",
		"src/child/testdata/deep/secret": "secret",
		"etc/selinux/policy":             "policy.bin",
	} {
		assert.Equal(t, data, string(entries[name].data), name)
	}
	assert.Equal(t, uint32(typeFile|0o755), entries["init"].mode)
	assert.Equal(t, 1000, entries["home/tester"].uid)

	var got wire.Job
	require.NoError(t, json.Unmarshal(entries["vmtest/job.json"].data, &got))
	assert.Equal(t, *job, got)
}

func TestTestdataIsReadableForEveryUser(t *testing.T) {
	entries := packed(t, &wire.Job{})
	assert.EqualValues(t, 0o444, entries["src/child/testdata/deep/secret"].mode&0o444)
}

func TestTestdataKeepsSymbolicLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege there")
	}
	link := packed(t, &wire.Job{})["src/child/testdata/link"]
	assert.Equal(t, uint32(typeLink|0o777), link.mode)
	assert.Equal(t, "deep/secret", string(link.data))
}
