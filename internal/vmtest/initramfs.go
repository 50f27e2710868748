package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/virspawn/spawn/internal/vmtest/wire"
)

// etc is the guest's /etc. The user tester has groups that a test may look for.
var etc = map[string]string{
	"etc/passwd": `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
tester:x:1000:1000:tester:/home/tester:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`,
	"etc/group": `root:x:0:
daemon:x:1:
tty:x:5:
tester:x:1000:
extra1:x:1001:tester
extra2:x:1002:tester
nogroup:x:65534:
`,
	"etc/hosts":    "127.0.0.1\tlocalhost vmtest\n::1\tlocalhost\n",
	"etc/hostname": "vmtest\n",
}

// initramfs is a guest's root file system under construction.
type initramfs struct {
	out  cpioWriter
	dirs map[string]bool // those that were written
}

// writeInitramfs writes everything that a guest needs into one file. It is not
// compressed: an emulated CPU takes longer to unpack than QEMU to load it.
func writeInitramfs(file, cache string, m *machine, guest string, binaries []testBinary, job *wire.Job) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	buffered := bufio.NewWriter(f)
	fsys := &initramfs{out: cpioWriter{w: buffered}, dirs: map[string]bool{".": true}}
	if err := fsys.addSystem(filepath.Join(cache, "busybox-"+m.arch), guest, job); err != nil {
		return err
	}
	for _, to := range slices.Sorted(maps.Keys(m.files)) {
		if err := fsys.addTree(strings.TrimPrefix(to, "/"), filepath.Join(cache, m.files[to])); err != nil {
			return err
		}
	}
	for i := range binaries {
		if err := fsys.addTests(&binaries[i]); err != nil {
			return err
		}
	}
	if err := fsys.out.close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// addSystem adds what every guest has.
func (i *initramfs) addSystem(busybox, guest string, job *wire.Job) error {
	for _, dir := range []string{"bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin"} {
		if err := i.addDir(dir); err != nil {
			return err
		}
	}
	if err := i.add(entry{name: "root", mode: typeDir | 0o700}); err != nil {
		return err
	}
	if err := i.add(entry{name: "home/tester", mode: typeDir | 0o755, uid: 1000, gid: 1000}); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(etc)) {
		if err := i.add(entry{name: name, mode: typeFile | 0o644, data: []byte(etc[name])}); err != nil {
			return err
		}
	}
	text, err := json.Marshal(job)
	if err != nil {
		return err
	}
	if err := i.add(entry{name: strings.TrimPrefix(wire.JobPath, "/"), mode: typeFile | 0o644, data: text}); err != nil {
		return err
	}
	if err := i.addFile("init", guest, 0o755); err != nil {
		return err
	}
	return i.addFile("bin/busybox", busybox, 0o755)
}

// guestDir is the package's folder in the guest.
func (b *testBinary) guestDir() string { return path.Join("/src", b.pkg) }

// addTests adds a package's test binary and its testdata.
func (i *initramfs) addTests(b *testBinary) error {
	dir := strings.TrimPrefix(b.guestDir(), "/")
	if err := i.addFile(path.Join(dir, "test"), b.path, 0o755); err != nil {
		return err
	}
	testdata := filepath.Join(b.dir, "testdata")
	if _, err := os.Stat(testdata); err != nil {
		return nil // most packages have none
	}
	return i.addTree(path.Join(dir, "testdata"), testdata)
}

// addTree adds a file, or a folder with everything in it.
func (i *initramfs) addTree(to, from string) error {
	return filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		name := path.Join(to, filepath.ToSlash(rel))
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch d.Type() {
		case fs.ModeDir:
			return i.addDir(name)
		case fs.ModeSymlink:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			return i.add(entry{name: name, mode: typeLink | 0o777, data: []byte(target)})
		case 0:
			// Readable for every user, whatever the umask was here.
			return i.addFile(name, file, uint32(info.Mode().Perm())|0o444)
		default:
			return fmt.Errorf("%s: cannot pack a file of type %v", file, d.Type())
		}
	})
}

func (i *initramfs) addFile(name, from string, perm uint32) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return i.add(entry{name: name, mode: typeFile | perm, data: data})
}

// addDir adds a folder with its parents, once.
func (i *initramfs) addDir(name string) error {
	if i.dirs[name] {
		return nil
	}
	return i.add(entry{name: name, mode: typeDir | 0o755})
}

// add adds an entry, after the folders above it.
func (i *initramfs) add(e entry) error {
	if err := i.addDir(path.Dir(e.name)); err != nil {
		return err
	}
	if e.mode&^0o7777 == typeDir {
		i.dirs[e.name] = true
	}
	return i.out.write(e)
}
