//go:build linux && (amd64 || arm64)

package stub_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/program"
	"github.com/virspawn/spawn/internal/stub"
	"golang.org/x/sys/unix"
)

// write makes a stub of a program that is all its own.
func write(t *testing.T, p *program.Program, status int) (fd int) {
	t.Helper()
	low, err := stub.New()
	require.NoError(t, err)
	// Where os.StartProcess puts nothing else in the child.
	fd, err = unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, 100)
	require.NoError(t, errors.Join(err, unix.Close(low)))
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, stub.Write(fd, child.Code(stub.Data), func(b []byte) []byte {
		at := len(b)
		b = append(b, child.Frame(0, 0, 0)...)
		b, m := p.AppendImage(b, 0, stub.Data+uintptr(len(b)-at), status)
		copy(b[at:], child.Frame(m.First, m.End, m.Report))
		return b
	}))
	return fd
}

// run executes a stub and returns its exit code, and what it has written to the
// status pipe.
func run(t *testing.T, add func(p *program.Program)) (code int, said string) {
	t.Helper()
	p, err := program.New(0)
	require.NoError(t, err)
	defer p.Free()
	p.Track()
	add(p)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	const status = 3
	fd := write(t, p, status)
	// The descriptors of the new process are numbered as they are listed.
	proc, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", fd), []string{"stub"}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr, w}})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	b := make([]byte, 64)
	n, _ := r.Read(b)
	state, err := proc.Wait()
	require.NoError(t, err)
	return state.ExitCode(), string(b[:n])
}

// TestTheCodeIsTheChilds: it is taken from the same assembly, and is whole.
func TestTheCodeIsTheChilds(t *testing.T) {
	code := child.Code(stub.Data)
	require.Greater(t, len(code), 100)
	require.Less(t, len(code), 512, "a few hundred bytes")
	status, said := run(t, func(p *program.Program) { p.Add(unix.SYS_EXIT_GROUP, 42) })
	require.Empty(t, said)
	require.Equal(t, 42, status)
}

func TestAStubReportsAsAChildDoes(t *testing.T) {
	status, said := run(t, func(p *program.Program) {
		p.AddOp(unix.SYS_CLOSE, program.Ignore, ^uintptr(0))
		p.Add(unix.SYS_CHDIR, p.CString("/nonexistent"))
	})
	require.Equal(t, 127, status)
	var r program.Report
	require.Equal(t, len(r), copy(r[:], said))
	p := new(program.Program)
	require.Equal(t, program.Failure{Op: 1, Errno: unix.ENOENT}, p.Decode(r))
}

// TestAddressesAreThoseOfTheStub: of strings, of what is linked, and in arrays.
func TestAddressesAreThoseOfTheStub(t *testing.T) {
	dir := t.TempDir()
	status, _ := run(t, func(p *program.Program) {
		open := p.Add(unix.SYS_OPENAT, ^uintptr(99), p.CString(dir+"/file"), unix.O_CREAT|unix.O_WRONLY, 0o600)
		write := p.Add(unix.SYS_WRITE, 0, p.CString("text"), 4)
		p.Link(open, write, 0)
		p.Expect(write, 4)
		p.Alloc(1 << 20) // what follows is in another block
		argv := p.Pointers(3)
		for i, s := range []string{"sh", "-c", "echo $A >" + dir + "/out; exit 7"} {
			p.SetPointer(argv, i, p.CString(s))
		}
		envp := p.Pointers(1)
		p.SetPointer(envp, 0, p.CString("A=value"))
		p.Add(unix.SYS_EXECVE, p.CString("/bin/sh"), argv, envp)
	})
	require.Equal(t, 7, status)
	for name, want := range map[string]string{"file": "text", "out": "value\n"} {
		b, err := os.ReadFile(dir + "/" + name)
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
}

// TestNothingIsBothWritableAndExecutable, in the file and in the process.
func TestNothingIsBothWritableAndExecutable(t *testing.T) {
	p, err := program.New(0)
	require.NoError(t, err)
	defer p.Free()
	p.Track()
	p.AddOp(unix.SYS_READ, program.Retry, 0, p.Alloc(1), 1)
	fd := write(t, p, -1)
	f, err := elf.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, elf.ET_EXEC, f.Type)
	require.Len(t, f.Progs, 3)
	for _, s := range f.Progs {
		require.NotEqual(t, elf.PF_W|elf.PF_X, s.Flags&(elf.PF_W|elf.PF_X), "%+v", s)
		require.NotEqual(t, elf.PT_INTERP, s.Type)
	}

	r, w, err := os.Pipe()
	require.NoError(t, err)
	proc, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", fd), []string{"stub"}, &os.ProcAttr{Files: []*os.File{r}})
	require.NoError(t, err)
	var maps []byte
	// It shows a moment later than os.StartProcess knows.
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(string(maps), stub.Name) && time.Now().Before(deadline); {
		maps, err = os.ReadFile(fmt.Sprintf("/proc/%d/maps", proc.Pid))
		require.NoError(t, err)
	}
	for line := range strings.Lines(string(maps)) {
		perms := strings.Fields(line)[1]
		require.False(t, strings.Contains(perms, "w") && strings.Contains(perms, "x"), line)
	}
	require.Contains(t, string(maps), stub.Name)
	require.NoError(t, w.Close())
	_, err = proc.Wait()
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

// TestNobodyChangesAStub: it is sealed, and holds nothing of a larger one that
// was made before it.
func TestNobodyChangesAStub(t *testing.T) {
	const secret = "a secret of another command"
	p, err := program.New(0)
	require.NoError(t, err)
	p.Track()
	p.Alloc(100 << 10)
	p.CString(secret)
	write(t, p, -1)
	p.Free()

	q, err := program.New(0)
	require.NoError(t, err)
	defer q.Free()
	q.Track()
	q.Add(unix.SYS_EXIT_GROUP, 0)
	fd := write(t, q, -1)
	_, err = unix.Pwrite(fd, []byte("x"), 0)
	require.ErrorIs(t, err, unix.EPERM)
	require.ErrorIs(t, unix.Ftruncate(fd, 0), unix.EPERM)
	_, err = unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.ErrorIs(t, err, unix.EPERM)
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
	require.NoError(t, err)
	require.NotContains(t, string(b), secret)
	require.Less(t, len(b), os.Getpagesize()+64<<10)
}

// TestNoSecretStaysInTheMemoryOfThisProcess, whether the room for the
// executable was large enough or not.
func TestNoSecretStaysInTheMemoryOfThisProcess(t *testing.T) {
	for _, size := range []int{100, 1 << 20} {
		fd, err := stub.New()
		require.NoError(t, err)
		var rooms [2][]byte
		require.NoError(t, stub.Write(fd, child.Code(stub.Data), func(b []byte) []byte {
			// Where there is room, it is filled before more is needed.
			b = append(b, "a secret"...)
			rooms[0] = b
			b = append(b, bytes.Repeat([]byte("secret"), size)...)
			rooms[1] = b
			return b
		}))
		require.NoError(t, unix.Close(fd))
		for _, b := range rooms {
			require.NotContains(t, string(b), "secret")
		}
	}
}

func TestAReportNeedsNoSystemCall(t *testing.T) {
	r, fd, err := stub.NewReport()
	require.NoError(t, err)
	defer r.Close()
	defer unix.Close(fd)
	_, failed := r.Failure()
	require.False(t, failed)
	require.Zero(t, r.Forked())
	page, err := unix.Mmap(fd, 0, stub.ReportSize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(page)) }()
	for at, word := range map[int]uint64{8: 3 * program.OpSize, 16: uint64(unix.ENOENT), stub.PIDSize(): 42} {
		binary.NativeEndian.PutUint64(page[at:], word)
	}
	f, failed := r.Failure()
	require.True(t, failed)
	require.Equal(t, program.Failure{Op: 3, Errno: unix.ENOENT}, f)
	require.Equal(t, 42, r.Forked())
}
