//go:build linux

package run_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/testkit"
	"golang.org/x/sys/unix"
)

// What stays open in this process between the runs.

func init() {
	testkit.Helpers["kept-after-all"] = keptAfterAll
	testkit.Helpers["kept-chroot"] = keptChroot
	testkit.Helpers["kept-pins"] = keptPins
	testkit.Helpers["kept-taken-over"] = keptTakenOver
}

// runAll runs programs in all ways after which something might stay open.
func runAll(ctx context.Context, dir string) error {
	for name, c := range map[string]*spawn.Command{
		"plain":       spawn.New("/bin/true"),
		"KillTree":    spawn.New("/bin/true").SetKillMode(spawn.KillTree),
		"pid file":    spawn.New("/bin/true").SetPidFile(filepath.Join(dir, "pid")),
		"directory":   spawn.New("/bin/true").SetWorkingDirectory("/"),
		"hook":        spawn.New("/bin/true").SetPreExecHook(testkit.HookRuns, "true"),
		"label":       spawn.New("/bin/true").SetSELinuxLabel("system_u:system_r:init_t:s0").SetMACOptional(),
		"score":       spawn.New("/bin/true").SetOOMScoreAdj(1000),
		"immortal":    spawn.New("/bin/true").SetParentDeathSignal(unix.SIGKILL),
		"input":       spawn.New("/bin/cat").SetInput(make([]byte, 1<<17)),
		"missing":     spawn.New("/nonexistent/program"),
		"landlocked":  spawn.New("/bin/true").SetLandlock(spawn.Landlock{BestEffort: true, Paths: []spawn.LandlockPath{{Path: "/", Rights: spawn.LandlockReadOnly}}}),
		"name spaces": spawn.New("/bin/true").SetNamespaces(spawn.UserNamespace).SetUIDMap(spawn.IDMap{HostID: os.Geteuid(), Size: 1}),
	} {
		if _, err := c.Output(ctx); err != nil && name == "plain" {
			// what else cannot be done here may keep something open too
			return err
		}
	}
	p, err := spawn.New("/bin/true").RequireHandshake().Start(ctx)
	if err != nil {
		return err
	}
	if err := p.HandshakeNotify(); err != nil {
		return err
	}
	return p.Wait()
}

// keptAfterAll fails when something stays open that has a path.
func keptAfterAll(args []string) int {
	before := testkit.OpenNumbers()
	if err := runAll(context.Background(), args[0]); err != nil {
		return testkit.Fail(err)
	}
	kept := 0
	for _, fd := range testkit.OpenNumbers() {
		if slices.Contains(before, fd) {
			continue
		}
		kept++
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		target, linkErr := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil || linkErr != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR || strings.HasPrefix(target, "/") {
			return testkit.Fail(fmt.Errorf("descriptor %d of %s: %v, %v", fd, target, err, linkErr))
		}
	}
	if kept == 0 {
		return testkit.Fail(fmt.Errorf("nothing is kept: the test tests nothing"))
	}
	return 0
}

func TestWhatIsKeptHasNoPathWithALabelToo(t *testing.T) {
	out, err := testkit.HelperCommand(t, "kept-after-all", t.TempDir()).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
}

// keptChroot runs programs, then shuts itself in the directory args[0], gives
// up root for good, and prints what it reads of the file "secret" in what
// a descriptor leads to. With "leak" it has one of "/", as other code may.
func keptChroot(args []string) int {
	if err := runAll(context.Background(), args[1]); err != nil {
		return testkit.Fail(err)
	}
	if len(args) > 2 {
		if _, err := unix.Open(args[2], unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return testkit.Fail(err)
		}
	}
	for _, err := range []error{unix.Chroot(args[0]), unix.Chdir("/"), syscall.Setgroups(nil), syscall.Setgid(testkit.Nobody), syscall.Setuid(testkit.Nobody)} {
		if err != nil {
			return testkit.Fail(err)
		}
	}
	for _, fd := range testkit.OpenNumbers() {
		if unix.Fchdir(fd) != nil {
			continue
		}
		// In and out again: ".." leads past the new root.
		for range 20 {
			_ = unix.Chdir("..")
		}
		if b, err := os.ReadFile("etc/passwd"); err == nil {
			fmt.Printf("descriptor %d: %s", fd, b[:min(len(b), 5)])
			return 0
		}
	}
	return 0
}

// The way out of a chroot by a descriptor of a directory that was
// opened before.
func TestAttackOutOfAChrootByWhatIsKept(t *testing.T) {
	testkit.NeedsRoot(t, "to change the root directory")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	jail, dir := testkit.PublicDir(t), t.TempDir()
	require.Contains(t, testkit.OutputOf(t, testkit.HelperCommand(t, "kept-chroot", jail, dir, "/")), "root:", "other code's descriptor")
	require.Empty(t, testkit.OutputOf(t, testkit.HelperCommand(t, "kept-chroot", jail, dir)))
}

// keptPins starts its first program in a root directory of its own, args[0],
// leaves that, and unmounts it.
func keptPins(args []string) int {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return testkit.Fail(err)
	}
	for _, err := range []error{
		unix.Chroot(args[0]), unix.Chdir("/"), testkit.By(spawn.New("/tiny"), plan.Direct).Run(context.Background()),
		unix.Fchdir(root), unix.Chroot("."), unix.Close(root),
		unix.Unmount(args[0], 0),
	} {
		if err != nil {
			return testkit.Fail(err)
		}
	}
	return 0
}

func TestWhatIsKeptPinsNoFileSystem(t *testing.T) {
	testkit.NeedsRoot(t, "to mount")
	testkit.NeedsClone(t) // there is no /proc, and no C library of a helper's
	dir := t.TempDir()
	testkit.Needs(t, "to mount a file system", unix.Mount("tmpfs", dir, "tmpfs", 0, ""), unix.EPERM)
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	for _, sub := range []string{"dev", "proc"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dev/null"), nil, 0o666))
	program, err := os.ReadFile(testkit.TinyProgram(t))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tiny"), program, 0o755))
	out, err := testkit.HelperCommand(t, "kept-pins", dir).CombinedOutput(context.Background())
	require.NoError(t, err, "%s", out)
}

// lowNumbers are as many as are low for the library.
const lowNumbers = 64

// keptTakenOver takes numbers over that the library holds, with files of its
// own, runs programs, and looks whether they are its own still. Other files
// fill the table, so that the library needs low numbers.
func keptTakenOver(args []string) int {
	ctx := context.Background()
	before := testkit.OpenNumbers()
	if err := spawn.Run(ctx, "/bin/true"); err != nil {
		return testkit.Fail(err)
	}
	held := slices.DeleteFunc(testkit.OpenNumbers(), func(fd int) bool {
		var st unix.Stat_t
		return slices.Contains(before, fd) || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO
	})
	if len(held) != 17 {
		return testkit.Fail(fmt.Errorf("held are %v", held))
	}
	ours := map[int]uint64{}
	add := func(fd int) error {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		ours[fd] = st.Ino
		return err
	}
	open := func(min int) (*os.File, error) {
		f, err := testkit.NewMemfd("ours", min)
		if err != nil {
			return nil, err
		}
		return f, add(descriptor.Of(f))
	}
	files := []*os.File{}
	for range lowNumbers {
		f, err := open(3)
		if err != nil {
			return testkit.Fail(err)
		}
		files = append(files, f)
	}
	for i, n := range held {
		var err error
		switch {
		case args[0] == "dup2" && i%2 == 0:
			// the first of all is what refills the others
			if err = unix.Dup3(descriptor.Of(files[i]), n, unix.O_CLOEXEC); err == nil {
				err = add(n)
			}
		case args[0] == "close":
			err = unix.Close(n)
		}
		if err != nil {
			return testkit.Fail(err)
		}
	}
	if args[0] == "close" {
		for range held {
			f, err := open(3)
			if err != nil {
				return testkit.Fail(err)
			}
			files = append(files, f)
		}
	}
	for range 3 {
		if out, err := spawn.New("/bin/cat").SetInput([]byte("text")).Output(ctx); err != nil || string(out) != "text" {
			return testkit.Fail(fmt.Errorf("%q, %v", out, err))
		}
		if err := runAll(ctx, args[1]); err != nil {
			return testkit.Fail(err)
		}
		for fd, ino := range ours {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil || st.Ino != ino {
				return testkit.Fail(fmt.Errorf("the file of descriptor %d is another one: %v", fd, err))
			}
		}
	}
	for _, f := range files {
		if err := f.Close(); err != nil {
			return testkit.Fail(err)
		}
	}
	return 0
}

func TestFilesOfOtherCodeUnderNumbersThatWereKeptStay(t *testing.T) {
	for _, how := range []string{"dup2", "close"} {
		t.Run(how, func(t *testing.T) {
			out, err := testkit.HelperCommand(t, "kept-taken-over", how, t.TempDir()).CombinedOutput(context.Background())
			require.NoError(t, err, "%s", out)
		})
	}
}
