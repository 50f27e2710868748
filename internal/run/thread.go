//go:build linux

package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/virspawn/spawn/internal/command"
	"golang.org/x/sys/unix"
)

// Ids, capabilities, no_new_privs, seccomp filters, namespaces and a security
// label belong to a thread. A child is cloned by the thread that calls, where
// that can be, or forked by it, which package syscall does; it has what that
// thread has.
//
// The plan reads the capabilities of a thread, too. It need not be locked from
// then to the clone: a goroutine whose thread is another one than the rest must
// be locked to it, or its caller could not know either what runs there; and all
// others may change threads among those that are alike.

// sameThread returns the error of a method whose program another thread of this
// process is to start, this one, which is not confined as the calling one is.
// What cannot be seen is a Landlock domain of its own, a further seccomp filter
// before Linux 5.9, and a session keyring.
//
// Preconditions: both threads stay what they are.
func sameThread(method string, caller thread) error {
	theirs, err := caller.traits()
	if err != nil {
		return errUnseen(method, err)
	}
	ours, err := thisThread().traits()
	if err != nil {
		return errUnseen(method, err)
	}
	var differ []string
	for i, t := range theirs {
		if t != ours[i] && !slices.Contains(differ, t.name) {
			differ = append(differ, t.name)
		}
	}
	if differ == nil {
		return nil
	}
	return &command.CallError{Method: method, Err: fmt.Errorf("the calling thread has not what the others of this process have, one of which would start the program: %s", strings.Join(differ, ", "))}
}

func errUnseen(method string, err error) error {
	return &command.CallError{Method: method, Err: fmt.Errorf("whether another thread is confined as the calling one is cannot be seen: %w", err)}
}

// thread is one of this process.
type thread struct {
	id         int
	securebits int // which no other one is shown
}

// thisThread returns the current one.
func thisThread() thread {
	bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		bits = -1
	}
	return thread{unix.Gettid(), bits}
}

// trait is something that may confine a thread; several may have one name.
type trait struct{ name, value string }

// fields are those of a thread's /proc/PID/status that are traits.
var fields = [...]trait{
	{"user", "Uid"}, {"group", "Gid"}, {"supplementary groups", "Groups"},
	{"capabilities", "CapInh"}, {"capabilities", "CapPrm"}, {"capabilities", "CapEff"}, {"capabilities", "CapBnd"}, {"capabilities", "CapAmb"},
	{"no_new_privs", "NoNewPrivs"}, {"seccomp filters", "Seccomp"}, {"seccomp filters", "Seccomp_filters"},
	{"umask", "Umask"}, {"processors", "Cpus_allowed"}, {"memory nodes", "Mems_allowed"},
}

// links are the files of a thread that are symbolic links and traits.
var links = [...]trait{
	{"cgroup namespace", "ns/cgroup"}, {"IPC namespace", "ns/ipc"}, {"mount namespace", "ns/mnt"}, {"network namespace", "ns/net"},
	{"pid namespace", "ns/pid"}, {"pid namespace of children", "ns/pid_for_children"}, {"time namespace", "ns/time"},
	{"time namespace of children", "ns/time_for_children"}, {"user namespace", "ns/user"}, {"UTS namespace", "ns/uts"},
	{"root directory", "root"}, {"working directory", "cwd"},
}

// traits returns all of them, as the current thread sees them.
func (t thread) traits() ([]trait, error) {
	dir := "/proc/self/task/" + strconv.Itoa(t.id) + "/"
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return nil, err
	}
	traits := make([]trait, 0, len(fields)+len(links)+3)
	for _, f := range fields {
		_, value, _ := strings.Cut(string(status), "\n"+f.value+":")
		value, _, _ = strings.Cut(value, "\n")
		traits = append(traits, trait{f.name, value})
	}
	for _, l := range links {
		value, err := os.Readlink(dir + l.value)
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || l.value == "ns/mnt") {
			// not of this kernel
			return nil, err
		}
		traits = append(traits, trait{l.name, value})
	}
	// an error without a security module, or without cgroups
	label, _ := os.ReadFile(dir + "attr/current")
	cgroup, _ := os.ReadFile(dir + "cgroup")
	return append(traits, trait{"security label", string(label)}, trait{"cgroup", string(cgroup)}, trait{"securebits", strconv.Itoa(t.securebits)}), nil
}
