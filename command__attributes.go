package spawn

import (
	"os"
	"slices"
	"time"
)

// attributes are properties of the child's process. The zero value leaves them as in this process.
type attributes struct {
	oomScoreAdj    int
	setOOMScoreAdj bool

	coredumpFilter    uint32
	setCoredumpFilter bool

	personality    uint32
	setPersonality bool

	ownKeyring  bool
	chroot      string
	cgroup      string
	tty         *os.File
	pty         *ptySize // nil without
	ignored     []int    // numbers of signals
	deathSignal int      // 0 is none
}

func (a attributes) clone() attributes {
	a.ignored = slices.Clone(a.ignored)
	return a
}

// ptySize is the size of a terminal in characters.
type ptySize struct{ rows, cols uint16 }

// Numbers that Linux has on all architectures of this package.
const (
	maxSignal = 64
	sigKill   = 9
	sigStop   = 19
)

// scheduling is how the kernel shares processors and memory out to the child. The zero value leaves everything as in this process.
type scheduling struct {
	nice    int
	setNice bool

	scheduler    scheduler
	setScheduler bool

	cpus []int

	numaPolicy int
	numaNodes  []int
	setNUMA    bool

	ioClass    int
	ioLevel    int
	setIO      bool
	timerSlack time.Duration
	setSlack   bool

	runAlone bool
	runAmong int // a pid; 0 is none
}

func (s scheduling) clone() scheduling {
	s.cpus = slices.Clone(s.cpus)
	s.numaNodes = slices.Clone(s.numaNodes)
	return s
}

// scheduler says how a program is scheduled, with the kernel's numbers.
type scheduler struct {
	policy, priority          int
	runtime, deadline, period time.Duration
	resetOnFork               bool
}
