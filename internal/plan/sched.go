//go:build linux

package plan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/virspawn/spawn/internal/command"
	"golang.org/x/sys/unix"
)

// checkScheduling refuses processors and nodes that this machine does not have.
func (pl *Plan) checkScheduling() error {
	s := &pl.Command.Scheduling
	if err := checkNumbers("SetCPUAffinity", "processor", "/sys/devices/system/cpu/", s.CPUs); err != nil {
		return err
	}
	if err := checkNumbers("SetNUMAPolicy", "node", "/sys/devices/system/node/", s.NUMANodes); err != nil {
		return err
	}
	method := "SetRunAlone"
	switch {
	case s.RunAmong != 0:
		method = "SetRunAmong"
	case !s.RunAlone:
		return nil
	}
	if err := coreScheduling(); err != nil {
		return &command.CallError{Method: method, Err: err}
	}
	return nil
}

// checkNumbers refuses numbers that the machine cannot have, and a list of
// which none is there now. Without /sys the kernel has to say so.
func checkNumbers(method, what, dir string, numbers []int) error {
	if len(numbers) == 0 {
		return nil
	}
	possible, online := readList(dir+"possible"), readList(dir+"online")
	if possible == nil || online == nil {
		return nil
	}
	for _, n := range numbers {
		if !slices.Contains(possible, n) {
			return &command.CallError{Method: method, Err: fmt.Errorf("this machine has no %s %d", what, n)}
		}
	}
	if !slices.ContainsFunc(numbers, func(n int) bool { return slices.Contains(online, n) }) {
		return &command.CallError{Method: method, Err: fmt.Errorf("no %s of %v is online", what, numbers)}
	}
	return nil
}

// readList reads a file with a list such as 0-3,8; nil if there is none.
func readList(path string) (numbers []int) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for part := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, errFrom := strconv.Atoi(first)
		to, errTo := strconv.Atoi(last)
		if errFrom != nil || errTo != nil {
			return nil
		}
		for n := from; n <= to; n++ {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// coreScheduling returns why the kernel cannot give out cores, if so.
func coreScheduling() error {
	// Without a place for the answer, a kernel that has one says EFAULT.
	switch err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_GET, 0, unix.PR_SCHED_CORE_SCOPE_THREAD, 0); err {
	case unix.EINVAL:
		return fmt.Errorf("the kernel has no core scheduling: %w", errors.ErrUnsupported)
	case unix.ENODEV:
		return fmt.Errorf("the cores of this machine have one thread each: %w", errors.ErrUnsupported)
	}
	return nil
}

// scheduling comes while the privileges for it are still there.
func (pl *Plan) scheduling() {
	p, s := pl.Program, &pl.Command.Scheduling
	if s.RunAlone {
		p.Add(unix.SYS_PRCTL, unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_CREATE, 0, unix.PR_SCHED_CORE_SCOPE_THREAD, 0)
	}
	if s.RunAmong != 0 {
		p.Add(unix.SYS_PRCTL, unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_SHARE_FROM, uintptr(s.RunAmong), unix.PR_SCHED_CORE_SCOPE_THREAD, 0)
	}
	// The affinity first: a deadline is admitted for the processors that the
	// program may use.
	if s.CPUs != nil {
		mask := bitmap(s.CPUs)
		p.Add(unix.SYS_SCHED_SETAFFINITY, 0, uintptr(len(mask)*8), p.Words(mask...))
	}
	if s.SetScheduler {
		pl.setScheduler(&s.Scheduler)
	}
	if s.SetNice {
		const process = 0 // PRIO_PROCESS
		p.Add(unix.SYS_SETPRIORITY, process, 0, uintptr(s.Nice))
	}
	if s.SetNUMA {
		var mask, bits uintptr
		if len(s.NUMANodes) > 0 {
			nodes := bitmap(s.NUMANodes)
			// One more than there are: the kernel takes one off.
			mask, bits = p.Words(nodes...), uintptr(len(nodes)*64+1)
		}
		p.Add(unix.SYS_SET_MEMPOLICY, uintptr(s.NUMAPolicy), mask, bits)
	}
	if s.SetIO {
		// IOPRIO_WHO_PROCESS, IOPRIO_CLASS_SHIFT
		const process, classShift = 1, 13
		p.Add(unix.SYS_IOPRIO_SET, process, 0, uintptr(int(s.IOClass)<<classShift|s.IOLevel))
	}
	if s.SetSlack {
		p.Add(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, uintptr(s.TimerSlack))
	}
}

// setScheduler uses sched_setscheduler where it can: that call leaves the nice
// value alone.
func (pl *Plan) setScheduler(s *command.Scheduler) {
	p := pl.Program
	if s.Policy != unix.SCHED_DEADLINE {
		const resetOnFork = 0x40000000 // SCHED_RESET_ON_FORK
		policy := uintptr(s.Policy)
		if s.ResetOnFork {
			policy |= resetOnFork
		}
		p.Add(unix.SYS_SCHED_SETSCHEDULER, 0, policy, p.Uint32s([]uint32{uint32(s.Priority)}))
		return
	}
	const resetOnFork = 1 // SCHED_FLAG_RESET_ON_FORK
	var flags uint64
	if s.ResetOnFork {
		flags = resetOnFork
	}
	// struct sched_attr: size and policy, flags, nice value and priority, then
	// the times.
	attr := p.Words(0, flags, 0, uint64(s.Runtime), uint64(s.Deadline), uint64(s.Period))
	first := p.Bytes(attr, 8)
	binary.NativeEndian.PutUint32(first, schedAttrSize)
	binary.NativeEndian.PutUint32(first[4:], uint32(s.Policy))
	p.Add(unix.SYS_SCHED_SETATTR, 0, attr, 0)
}

// schedAttrSize is the size of a struct sched_attr as of its first version,
// in bytes.
const schedAttrSize = 48

// bitmap returns numbers as the set bits of 64-bit words.
func bitmap(numbers []int) []uint64 {
	words := make([]uint64, slices.Max(numbers)/64+1)
	for _, n := range numbers {
		words[n/64] |= 1 << (n % 64)
	}
	return words
}
