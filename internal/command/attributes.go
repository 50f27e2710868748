package command

import (
	"os"
	"slices"
	"time"
)

// Attributes are properties of the child's process. The zero value leaves them
// as in the parent.
type Attributes struct {
	OOMScoreAdj    int
	SetOOMScoreAdj bool

	CoredumpFilter    uint32
	SetCoredumpFilter bool

	Hugepages    bool
	SetHugepages bool

	Personality    uint32
	SetPersonality bool

	OwnKeyring  bool
	Chroot      string
	Cgroup      string
	TTY         *os.File
	PTY         *PTYSize // nil without
	Ignored     []int    // numbers of signals
	DeathSignal int      // 0 is none
}

func (a Attributes) clone() Attributes {
	a.Ignored = slices.Clone(a.Ignored)
	return a
}

// PTYSize is the size of a terminal in characters.
type PTYSize struct{ Rows, Cols uint16 }

// Numbers that Linux has on all architectures of this package.
const (
	MaxSignal = 64
	SigKill   = 9
	SigStop   = 19
)

// Scheduling is how the kernel shares processors and memory out to the child.
// The zero value leaves everything as in the parent.
type Scheduling struct {
	Nice    int
	SetNice bool

	Scheduler    Scheduler
	SetScheduler bool

	CPUs []int

	NUMAPolicy int
	NUMANodes  []int
	SetNUMA    bool

	IOClass    int
	IOLevel    int
	SetIO      bool
	TimerSlack time.Duration
	SetSlack   bool

	RunAlone bool
	RunAmong int // a pid; 0 is none
}

func (s Scheduling) clone() Scheduling {
	s.CPUs = slices.Clone(s.CPUs)
	s.NUMANodes = slices.Clone(s.NUMANodes)
	return s
}

// Scheduler says how a program is scheduled, with the kernel's numbers.
type Scheduler struct {
	Policy, Priority          int
	Runtime, Deadline, Period time.Duration
	ResetOnFork               bool
}
