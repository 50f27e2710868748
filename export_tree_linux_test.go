package spawn

import "syscall"

func newTree(pids ...int) *tree {
	t := &tree{seen: map[int]bool{}}
	for _, pid := range pids {
		t.members = append(t.members, member{pid: pid})
	}
	return t
}

func (t *tree) addFor(l leader, pid int) { t.add(l, pid) }

func (t *tree) huntFor(l leader) { t.hunt(l) }

func (t *tree) memberPIDs() (pids []int) {
	for _, m := range t.members {
		pids = append(pids, m.pid)
	}
	return pids
}

func memberStat(pid int) (ppid int, start string, err error) {
	s, err := readStat(pid)
	return s.ppid, s.start, err
}

func isSameProcess(pid int, start string) bool { return member{pid: pid, start: start}.isSame() }

func hasEndedSince(pid int, start string) bool { return member{pid: pid, start: start}.hasEnded() }

func signalIfSame(pid int, start string, sig syscall.Signal) {
	member{pid: pid, start: start}.signal(sig)
}

func cgroupsLeft() []string { return leftCgroups.dirs }

func mountPath(escaped string) string { return unescapeMount.Replace(escaped) }
