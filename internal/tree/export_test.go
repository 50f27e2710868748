//go:build linux

package tree

import "syscall"

// What the tests of this package reach into.

// NewTree returns a tree that has found these members.
func NewTree(pids ...int) *Tree {
	t := &Tree{seen: map[int]bool{}}
	for _, pid := range pids {
		t.members = append(t.members, member{pid: pid})
	}
	return t
}

// AddFor adds a process, if it is below a member.
func (t *Tree) AddFor(l Leader, pid int) { t.add(l, pid) }

// HuntFor looks for the newest process.
func (t *Tree) HuntFor(l Leader) { t.hunt(l) }

// RefreshFor begins to look for members anew.
func (t *Tree) RefreshFor(child int) { t.refresh(child) }

// MemberPIDs returns the pids of the members.
func (t *Tree) MemberPIDs() (pids []int) {
	for _, m := range t.members {
		pids = append(pids, m.pid)
	}
	return pids
}

// MemberStat returns what tells a process from others.
func MemberStat(pid int) (ppid int, start string, err error) {
	s, err := readStat(pid)
	return s.ppid, s.start, err
}

// IsSameProcess reports whether the process with this pid has this start time.
func IsSameProcess(pid int, start string) bool { return member{pid: pid, start: start}.isSame() }

// HasEndedSince reports whether the process with this pid and start time
// is gone.
func HasEndedSince(pid int, start string) bool { return member{pid: pid, start: start}.hasEnded() }

// SignalIfSame signals the process with this pid if it has this start time.
func SignalIfSame(pid int, start string, sig syscall.Signal) {
	member{pid: pid, start: start}.signal(sig)
}

// CgroupsLeft returns the cgroups that are still to be removed.
func CgroupsLeft() []string { return leftCgroups.dirs }

// MountPath undoes what mountinfo does to a path.
func MountPath(escaped string) string { return unescapeMount.Replace(escaped) }
