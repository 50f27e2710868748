//go:build linux

package tree

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/virspawn/spawn/internal/descriptor"
	"golang.org/x/sys/unix"
)

// Tree is what finds the descendants of a child. There are two ways, of which
// the start of the child takes the first that it can:
//
//   - The child is born in a cgroup v2 of its own. A process cannot leave it
//     by whatever it does to its session, group or parent, and one write to
//     cgroup.kill ends all that are in it, however fast they fork.
//   - The child is a subreaper: those of its descendants whose parents end
//     become its own children, so that all are found below it as long as it
//     lives. They are stopped first, until no new one is found and none runs
//     that could fork; then all are killed.
type Tree struct {
	Cgroup string // the directory; "" with a subreaper
	// Its cgroup.kill, open beforehand so that a kill cannot fail for want of
	// a descriptor; -1 before Linux 5.14.
	KillFile int

	// The child first, then the descendants that were found, parents before
	// their children.
	members []member
	seen    map[int]bool
}

// Leader is the child whose descendants are meant.
type Leader interface {
	ChildPID() int
	Signal(syscall.Signal) error
}

// member is the child, or a process below it. Its start time tells it from
// another one that gets its pid.
type member struct {
	pid   int
	start string
	ended bool
}

const (
	// treeWait is how long a tree is waited for: that no new process appears in
	// it, and that those killed have ended.
	treeWait = 2 * time.Second
	// stopWait is how long processes that do not stop are waited for: those in
	// an uninterruptible sleep, such as the parent of a vfork.
	stopWait = 20 * time.Millisecond
	// treePause is the time between two looks.
	treePause = 200 * time.Microsecond
	// maxLooks is how often new processes are looked for when all in a cgroup
	// get a signal.
	maxLooks = 10
	// huntTries is how often in a row the newest process is looked at. Most
	// tries find that there is no newer one, and take 2 us.
	huntTries = 200
	// maxAncestors is how far the newest process is from a member at most.
	// Those in between have not ended yet.
	maxAncestors = 16
)

// UsesCgroup reports whether the tree is a cgroup; nil is none.
func (t *Tree) UsesCgroup() bool { return t != nil && t.Cgroup != "" }

// Signal signals the child and its descendants. The child may have ended
// already. It returns the error of the child.
//
// Preconditions: the caller keeps the child from being waited for.
func (t *Tree) Signal(l Leader, sig syscall.Signal) error {
	switch {
	case t.Cgroup != "" && sig == unix.SIGKILL:
		// The child comes first, as in signalCgroup; and it may have been
		// allowed to leave the cgroup.
		err := l.Signal(sig)
		t.KillCgroup()
		return err
	case t.Cgroup != "":
		return t.signalCgroup(l, sig)
	}
	return t.signalMembers(l, sig)
}

// End gives back what the tree holds. The cgroup of a tree that was killed is
// empty in a moment; another may have processes in it for as long as they like,
// and is left for later.
func (t *Tree) End(killed bool) {
	if t.KillFile >= 0 {
		descriptor.Close(t.KillFile)
		t.KillFile = -1
	}
	if t.Cgroup == "" {
		return
	}
	// While those killed are dying, new kernels remove the cgroup already.
	for deadline := time.Now().Add(treeWait); killed && IsPopulated(t.Cgroup) || !removeCgroup(t.Cgroup); time.Sleep(treePause) {
		if !killed || time.Now().After(deadline) {
			leftCgroups.mu.Lock()
			leftCgroups.dirs = append(leftCgroups.dirs, t.Cgroup)
			leftCgroups.mu.Unlock()
			return
		}
	}
}

// OpenRefusal returns the error of pidfd_open where a policy refuses it to this
// process, and nil where it does not: the kernel finds this pid invalid.
var OpenRefusal = sync.OnceValue(func() error {
	if _, err := unix.PidfdOpen(-1, 0); err != unix.EINVAL {
		return os.NewSyscallError("pidfd_open", err)
	}
	return nil
})

// Refusal returns the error of a call without which no tree can be signalled,
// where a policy refuses it to this process.
var Refusal = sync.OnceValue(func() error {
	if err := OpenRefusal(); err != nil {
		return err
	}
	// The kernel says that there is no such descriptor.
	if err := unix.PidfdSendSignal(-1, 0, nil, 0); err != unix.EBADF {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	return nil
})

// signalPID signals the process with this pid if same says, when no other
// process can get the signal any more, that it is the right one.
func signalPID(pid int, sig syscall.Signal, same func() bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has ended
	}
	defer descriptor.Close(fd)
	if same() {
		// The process may have ended, or be another user's.
		_ = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
}

// OwnCgroup returns the directory of this process's cgroup v2; "" where there
// is none to be seen.
func OwnCgroup() string {
	text, _ := os.ReadFile("/proc/self/cgroup")
	_, own, _ := strings.Cut("\n"+string(text), "\n0::")
	own, _, found := strings.Cut(own, "\n")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if !found || len(f) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		// Of a mount that shows only a part of the hierarchy, its root there.
		if rel, err := filepath.Rel(f[3], own); err == nil && filepath.IsLocal(rel) {
			return filepath.Join(unescapeMount.Replace(f[4]), rel)
		}
	}
	return ""
}

// unescapeMount undoes what mountinfo does to a path. (proc_pid_mountinfo(5))
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// cgroupName starts the name of a child's cgroup, before the pid of the process
// that has made it.
const cgroupName = "spawn-"

// leftCgroups are those that could not be removed at the end of their child.
var leftCgroups struct {
	mu   sync.Mutex // guards what follows
	dirs []string
	// The directories in which those of processes that have ended were
	// looked for.
	swept map[string]bool
}

// MakeCgroup makes a cgroup in this directory and reports whether it could. It
// removes others that have become empty.
func (t *Tree) MakeCgroup(parent string) bool {
	if !filepath.IsAbs(parent) {
		// Not filepath.Abs, which believes $PWD.
		wd, err := syscall.Getwd()
		if err != nil {
			return false
		}
		parent = filepath.Join(wd, parent)
	}
	sweepCgroups(parent)
	dir := filepath.Join(parent, fmt.Sprintf("%s%d-%016x", cgroupName, os.Getpid(), rand.Uint64()))
	if os.Mkdir(dir, 0o755) != nil {
		return false
	}
	t.Cgroup = dir
	return true
}

// TakesProcesses reports whether a process of this one's cgroup may go to the
// one of the tree, as far as that can be known before. Where not, that one is
// removed: a forked helper would find out too late.
func (t *Tree) TakesProcesses() bool {
	kind, err := os.ReadFile(t.Cgroup + "/cgroup.type")
	// This becomes the ancestor in common with this process's cgroup: who may
	// write there may move processes below it. (cgroups(7))
	common := t.Cgroup
	for own := OwnCgroup() + "/"; !strings.HasPrefix(own, common+"/") && common != "/" && own != "/"; {
		common = filepath.Dir(common)
	}
	if err == nil && string(kind) == "domain\n" && unix.Faccessat(unix.AT_FDCWD, common+"/cgroup.procs", unix.W_OK, unix.AT_EACCESS) == nil {
		return true
	}
	removeCgroup(t.Cgroup)
	t.Cgroup = ""
	return false
}

// sweepCgroups removes cgroups that are left in a directory: those of this
// process and, once, those of processes that have ended.
func sweepCgroups(parent string) {
	l := &leftCgroups
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirs = slices.DeleteFunc(l.dirs, removeCgroup)
	if l.swept[parent] {
		return
	}
	if l.swept == nil {
		l.swept = map[string]bool{}
	}
	l.swept[parent] = true
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), cgroupName)
		maker, _, _ := strings.Cut(rest, "-")
		// One of a living process in another pid namespace is mistaken only
		// while it is empty, and its start then does without.
		if pid, err := strconv.Atoi(maker); ours && err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			removeCgroup(filepath.Join(parent, e.Name()))
		}
	}
}

// removeCgroup removes a cgroup without processes, and those that the program
// has made in it. It reports whether it is gone.
func removeCgroup(dir string) bool {
	err := unix.Rmdir(dir)
	if err == unix.EBUSY && !IsPopulated(dir) {
		for _, sub := range subCgroups(dir) {
			removeCgroup(sub)
		}
		err = unix.Rmdir(dir)
	}
	return err == nil || err == unix.ENOENT
}

// subCgroups returns the cgroups in this one.
func subCgroups(dir string) (subs []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			subs = append(subs, filepath.Join(dir, e.Name()))
		}
	}
	return subs
}

// IsPopulated reports whether there are processes in a cgroup or below.
func IsPopulated(dir string) bool {
	events, err := os.ReadFile(dir + "/cgroup.events")
	return err == nil && bytes.Contains(events, []byte("populated 1"))
}

// cgroupPIDs returns the pids of the processes in a cgroup and below.
func cgroupPIDs(dir string) []int {
	text, _ := os.ReadFile(dir + "/cgroup.procs")
	pids := parsePIDs(text)
	for _, sub := range subCgroups(dir) {
		pids = append(pids, cgroupPIDs(sub)...)
	}
	return pids
}

// parsePIDs returns the pids in a text, and skips all else.
func parsePIDs(text []byte) (pids []int) {
	for f := range bytes.FieldsSeq(text) {
		if pid, err := strconv.Atoi(string(f)); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// signalCgroup signals the child, and then the others, lest the child goes on
// when those that it waits for have ended.
func (t *Tree) signalCgroup(l Leader, sig syscall.Signal) error {
	err := l.Signal(sig)
	sent := map[int]bool{l.ChildPID(): true}
	for range maxLooks { // those that were forked meanwhile
		before := len(sent)
		for _, pid := range cgroupPIDs(t.Cgroup) {
			if !sent[pid] {
				sent[pid] = true
				signalPID(pid, sig, func() bool { return t.has(pid) })
			}
		}
		if len(sent) == before {
			break
		}
	}
	return err
}

// has reports whether a process is in the cgroup, whose name is like
// no other's.
func (t *Tree) has(pid int) bool {
	text, _ := procFileText(pid, "cgroup")
	return bytes.Contains(text, []byte("/"+filepath.Base(t.Cgroup)))
}

// KillCgroup kills all that are in the cgroup.
func (t *Tree) KillCgroup() {
	if t.KillFile >= 0 {
		if _, err := unix.Write(t.KillFile, []byte("1")); err == nil {
			return
		}
	}
	// Before Linux 5.14. What is frozen forks no more, and still dies
	// of SIGKILL.
	_ = os.WriteFile(t.Cgroup+"/cgroup.freeze", []byte("1"), 0)
	for deadline := time.Now().Add(treeWait); time.Now().Before(deadline); time.Sleep(treePause) {
		pids := cgroupPIDs(t.Cgroup)
		for _, pid := range pids {
			signalPID(pid, unix.SIGKILL, func() bool { return t.has(pid) })
		}
		if len(pids) == 0 {
			return
		}
	}
}

// signalMembers signals the child and what was found below it: nothing more is
// found there once the child has ended. So all are stopped before they get any
// other signal than SIGCONT, which has to follow unless it kills them.
func (t *Tree) signalMembers(l Leader, sig syscall.Signal) error {
	deadline := time.Now().Add(treeWait)
	if sig != unix.SIGCONT {
		t.stopMembers(l, deadline)
	}
	err := l.Signal(sig)
	for _, m := range t.members[1:] {
		m.signal(sig)
	}
	if sig != unix.SIGKILL {
		return err
	}
	for i := 1; i < len(t.members) && time.Now().Before(deadline); {
		if t.members[i].hasEnded() {
			i++
		} else {
			time.Sleep(treePause)
		}
	}
	return err
}

// stopMembers stops the child, what was found below it before, and their
// descendants, until there is none that could fork.
func (t *Tree) stopMembers(l Leader, deadline time.Time) {
	t.refresh(l.ChildPID())
	// The child is done when other code of this process has waited for it.
	t.members[0].ended = l.Signal(unix.SIGSTOP) == os.ErrProcessDone
	for _, m := range t.members[1:] {
		m.signal(unix.SIGSTOP)
	}
	calm := time.Now()
	// Twice: in the first look one may have moved, from a parent that ended to
	// the child, behind its back.
	for quiet := 0; quiet < 2 && time.Now().Before(deadline); {
		again, missed, running := t.look(l)
		switch {
		case again:
			calm, quiet = time.Now(), 0
			if missed {
				t.hunt(l)
			}
		case running && time.Since(calm) < stopWait:
			quiet = 0
			time.Sleep(treePause)
		default:
			quiet++
		}
	}
}

// refresh forgets the members that have ended: their pids may be others'
// by now.
func (t *Tree) refresh(child int) {
	if len(t.members) == 0 {
		t.members = make([]member, 1)
	}
	// It is known by its pidfd, and another than before when that has
	// forked it.
	t.members[0].pid = child
	others := slices.DeleteFunc(t.members[1:], func(m member) bool { return m.hasEnded() })
	t.members = t.members[:1+len(others)]
	t.seen = map[int]bool{}
	for _, m := range t.members {
		t.seen[m.pid] = true
	}
}

// look looks once for new children of all members, those found meanwhile
// included, and stops them. It reports whether there may be more, whether
// one could not be stopped before it ended or had another parent, and whether
// a member is running.
func (t *Tree) look(l Leader) (again, missed, running bool) {
	for i := 0; i < len(t.members); i++ {
		if t.members[i].ended {
			continue
		}
		parent := t.members[i]
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", parent.pid))
		if err != nil {
			t.members[i].ended = os.IsNotExist(err)
			again = again || !os.IsNotExist(err) // no descriptor to be had
			continue
		}
		for _, thread := range threads {
			task := "task/" + thread.Name() + "/"
			// This comes first: once the thread has stopped, it gets no
			// more children.
			state, _ := procFileText(parent.pid, task+"stat")
			running = running || !parseStat(state).isStopped()
			children, _ := procFileText(parent.pid, task+"children")
			// The newest first: of those that fork and end at once, it may
			// still be there.
			for _, pid := range slices.Backward(parsePIDs(children)) {
				switch {
				case !t.seen[pid]:
					missed = !t.add(l, pid) || missed
					again = true
				case unix.Kill(pid, 0) == unix.ESRCH:
					// The list misses one when another disappears while it
					// is read.
					delete(t.seen, pid)
					again = true
				}
			}
		}
	}
	return again, missed, running
}

// hunt looks at the newest process of all again and again, and stops it if it
// is below a member. That catches what forks and ends as fast as it can, of
// which at most zombies are found among the children of a member. It costs the
// same however many there are by now.
func (t *Tree) hunt(l Leader) {
	loadavg, err := unix.Open("/proc/loadavg", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer descriptor.Close(loadavg)
	for range huntTries {
		var text [128]byte
		n, err := unix.Pread(loadavg, text[:], 0)
		if err != nil {
			return
		}
		for _, pid := range parsePIDs(text[:n]) { // the one whole number there
			if !t.seen[pid] {
				t.add(l, pid)
			}
		}
	}
}

// add adds a process, if it is below a member, and a living one, and stops it.
// It reports whether it has.
func (t *Tree) add(l Leader, pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false // it has ended
	}
	defer descriptor.Close(fd)
	s, below := t.isBelow(l, pid, maxAncestors)
	if !below {
		return false
	}
	t.seen[pid] = true
	if s.isEnded() {
		return false
	}
	// The process may be another user's.
	_ = unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0)
	t.members = append(t.members, member{pid: pid, start: s.start})
	return true
}

// isBelow reports whether a process has a member for its parent, or for the
// parent of its parent, and so on.
func (t *Tree) isBelow(l Leader, pid, ancestors int) (stat, bool) {
	s, err := readStat(pid)
	if err != nil {
		return s, false
	}
	if s.ppid == l.ChildPID() && l.Signal(0) == nil {
		// Nobody has waited for the child, so the pid is its own.
		return s, true
	}
	if slices.ContainsFunc(t.members, func(m member) bool { return m.pid == s.ppid && m.isSame() }) {
		return s, true
	}
	if ancestors == 0 {
		return s, false
	}
	if _, below := t.isBelow(l, s.ppid, ancestors-1); !below {
		return s, false
	}
	// If the parent has ended meanwhile, its pid may be that of another.
	again, err := readStat(pid)
	return again, err == nil && again.ppid == s.ppid
}

// signal signals the member, unless another process has its pid.
func (m member) signal(sig syscall.Signal) { signalPID(m.pid, sig, m.isSame) }

// isSame reports whether the pid is still that of the member.
func (m member) isSame() bool {
	s, err := readStat(m.pid)
	return err == nil && s.start == m.start
}

// hasEnded reports whether the member is gone, or a zombie.
func (m member) hasEnded() bool {
	s, err := readStat(m.pid)
	return err == nil && (s.start != m.start || s.isEnded()) || err == unix.ENOENT || err == unix.ESRCH
}

// stat is a part of /proc/PID/stat. (proc_pid_stat(5))
type stat struct {
	state byte
	ppid  int
	start string // in clock ticks since the system was booted
}

// isEnded reports whether the process is a zombie, or less.
func (s stat) isEnded() bool { return s.state == 'Z' || s.state == 'X' }

// isStopped reports whether the thread cannot fork; there may be none any more.
func (s stat) isStopped() bool {
	return s.state == 0 || s.state == 'T' || s.state == 't' || s.isEnded()
}

// readStat returns what tells a process from others, and its parent.
func readStat(pid int) (stat, error) {
	text, err := procFileText(pid, "stat")
	return parseStat(text), err
}

// parseStat is readStat for a text that was read. The zero value is what it
// makes of none.
func parseStat(text []byte) (s stat) {
	// This is counted from the field behind the name, which may have anything
	// in it.
	const start = 22 - 3
	f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(f) > start {
		s.state, s.start = f[0][0], string(f[start])
		s.ppid, _ = strconv.Atoi(string(f[1]))
	}
	return s
}

// procFileText reads a file about a process. It is quicker than os.ReadFile,
// which counts in a race with a program that forks.
func procFileText(pid int, name string) ([]byte, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer descriptor.Close(fd)
	text := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return text, err
		}
		text = slices.Grow(text[:len(text)+n], 512)
	}
}
