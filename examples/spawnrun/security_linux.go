package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/syndtr/gocapability/capability"
	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

// securityGroups are the options about what the program may do and how it
// is run.
var securityGroups = []group{
	{"Privileges", []option{
		{"clear-caps", "", "no capabilities", plain(func(c *spawn.Command) { c.ClearCaps() })},
		{"allow-cap", "NAME,...", "these capabilities, by name or number, and no others (repeatable)", caps((*spawn.Command).AllowCap)},
		{"bounding-caps", "NAME,...", "the capabilities that can ever be had", caps((*spawn.Command).SetBoundingCaps)},
		{"ambient-caps", "NAME,...", "the capabilities that an ordinary user keeps", caps((*spawn.Command).SetAmbientCaps)},
		{"securebits", "N", "the securebits flags, as a number", number(func(c *spawn.Command, n uint64) { c.SetSecurebits(int(n)) })},
		{"memory-deny-write-execute", "", "no memory that can be written and executed", plain(func(c *spawn.Command) { c.SetMemoryDenyWriteExecute() })},
		{"no-new-privs", "", "nothing that is executed gives more privileges", plain(func(c *spawn.Command) { c.SetNoNewPrivs() })},
		{"seccomp", "FILE", "a seccomp filter: the compiled BPF program, as of seccomp_export_bpf(3)", (*runner).setFilter},
		{"landlock-path", "ro|rw:PATH", "confine the program to this file or directory and others so named (repeatable)", (*runner).allowPath},
		{"landlock-port", "bind|connect:N", "confine the program to this TCP port and others so named (repeatable)", (*runner).allowPort},
		{"landlock-best-effort", "", "as far as the kernel can", func(r *runner, _ string) error {
			r.landlock.BestEffort = true
			r.cmd.SetLandlock(r.landlock)
			return nil
		}},
		{"selinux", "LABEL", "the SELinux context", text((*spawn.Command).SetSELinuxLabel)},
		{"apparmor", "PROFILE", "the AppArmor profile", text((*spawn.Command).SetAppArmorProfile)},
		{"smack", "LABEL", "the Smack label", text((*spawn.Command).SetSmackLabel)},
		{"mac-optional", "", "no label on a kernel without the module for it", plain(func(c *spawn.Command) { c.SetMACOptional() })},
	}},
	{"Namespaces and places", []option{
		{"namespaces", "KIND,...", "new ones: cgroup, ipc, mnt, net, pid, time, user, uts", (*runner).setNamespaces},
		{"join", "KIND:FILE", "an existing one (repeatable)", (*runner).joinNamespace},
		{"uid-map", "INSIDE:OUTSIDE:SIZE", "uids of a new user namespace (repeatable)", func(r *runner, v string) error {
			return addMap(&r.uidMaps, v, r.cmd.SetUIDMap)
		}},
		{"gid-map", "INSIDE:OUTSIDE:SIZE", "gids of a new user namespace (repeatable)", func(r *runner, v string) error {
			return addMap(&r.gidMaps, v, r.cmd.SetGIDMap)
		}},
		{"chroot", "DIR", "the root directory; PROGRAM is a path in it", text((*spawn.Command).SetChroot)},
		{"cgroup", "DIR", "a cgroup v2 directory to start in", text((*spawn.Command).SetCgroup)},
	}},
	{"Scheduling", []option{
		{"nice", "N", "the nice value, -20 to 19", integer(func(r *runner, n int) { r.cmd.SetNice(n) })},
		{"scheduler", "POLICY[:PRIORITY]", "other, batch, idle, fifo, rr; or deadline:RUNTIME:DEADLINE:PERIOD", (*runner).setScheduler},
		{"cpus", "N,...", "the processors to run on", func(r *runner, v string) error {
			cpus, err := numbers(v)
			r.cmd.SetCPUAffinity(cpus...)
			return err
		}},
		{"numa", "POLICY[:N,...]", "memory: default, preferred, bind, interleave, local; with nodes", (*runner).setNUMA},
		{"io-priority", "CLASS[:LEVEL]", "realtime, best-effort or idle, with 0 to 7", (*runner).setIOPriority},
		{"timer-slack", "DURATION", "how late timers may be", duration(func(r *runner, d time.Duration) { r.cmd.SetTimerSlack(d) })},
		{"run-alone", "", "nobody else on the same core at the same time", plain(func(c *spawn.Command) { c.SetRunAlone() })},
		{"run-among", "PID", "nobody else but this process and those that run among it", integer(func(r *runner, n int) { r.cmd.SetRunAmong(n) })},
	}},
	{"The process", []option{
		{"oom-score-adj", "N", "how likely it is to be ended when memory runs out, -1000 to 1000", integer(func(r *runner, n int) { r.cmd.SetOOMScoreAdj(n) })},
		{"coredump-filter", "N", "what goes into a core dump", number(func(c *spawn.Command, n uint64) { c.SetCoredumpFilter(uint32(n)) })},
		{"transparent-hugepages", "BOOL", "whether the kernel may back memory by huge pages", func(r *runner, v string) error {
			on, err := strconv.ParseBool(v)
			r.cmd.SetTransparentHugepages(on)
			return err
		}},
		{"personality", "N", "the personality, as a number", number(func(c *spawn.Command, n uint64) { c.SetPersonality(spawn.Personality(n)) })},
		{"private-keyring", "", "a session keyring of its own", plain(func(c *spawn.Command) { c.SetKeyring(spawn.KeyringPrivate) })},
		{"controlling-tty", "FILE", "a new session with this terminal", (*runner).setTTY},
		{"ignore-signals", "NAME,...", "signals to ignore: HUP, PIPE…", func(r *runner, v string) error {
			var sigs []os.Signal
			for name := range strings.SplitSeq(v, ",") {
				sig, err := signalOf(name)
				if err != nil {
					return err
				}
				sigs = append(sigs, sig)
			}
			r.cmd.SetIgnoredSignals(sigs...)
			return nil
		}},
		{"parent-death-signal", "NAME", "the signal that comes with the end of spawnrun", func(r *runner, v string) error {
			sig, err := signalOf(v)
			if err == nil {
				r.cmd.SetParentDeathSignal(sig)
			}
			return err
		}},
	}},
}

// plain makes the set function of a flag without a value.
func plain(set func(*spawn.Command)) func(*runner, string) error {
	return func(r *runner, _ string) error {
		set(r.cmd)
		return nil
	}
}

// text makes the set function of a flag whose value goes to a method as it is.
func text(set func(*spawn.Command, string) *spawn.Command) func(*runner, string) error {
	return func(r *runner, v string) error {
		set(r.cmd, v)
		return nil
	}
}

// number makes the set function of a flag with bits, 0x for example.
func number(set func(*spawn.Command, uint64)) func(*runner, string) error {
	return func(r *runner, v string) error {
		n, err := strconv.ParseUint(v, 0, 32)
		if err != nil {
			return errWant("a number of up to 32 bits")
		}
		set(r.cmd, n)
		return nil
	}
}

// caps makes the set function of a flag with capabilities.
func caps(set func(*spawn.Command, ...capability.Cap) *spawn.Command) func(*runner, string) error {
	return func(r *runner, v string) error {
		var all []capability.Cap
		for name := range strings.SplitSeq(v, ",") {
			c, err := capOf(name)
			if err != nil {
				return err
			}
			all = append(all, c)
		}
		set(r.cmd, all...)
		return nil
	}
}

func capOf(name string) (capability.Cap, error) {
	if n, err := strconv.Atoi(name); err == nil {
		return capability.Cap(n), nil
	}
	for _, c := range capability.List() {
		if strings.EqualFold(c.String(), strings.TrimPrefix(strings.ToLower(name), "cap_")) {
			return c, nil
		}
	}
	return 0, fmt.Errorf("%q is not a capability", name)
}

func signalOf(name string) (os.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil {
		return syscall.Signal(n), nil
	}
	if sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG")); sig != 0 {
		return sig, nil
	}
	return nil, fmt.Errorf("%q is not a signal", name)
}

func numbers(v string) (all []int, err error) {
	for s := range strings.SplitSeq(v, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, errWant("numbers with commas between")
		}
		all = append(all, n)
	}
	return all, nil
}

// choice returns the value of a name.
func choice[T any](name string, values map[string]T) (T, error) {
	value, ok := values[name]
	if !ok {
		return value, fmt.Errorf("%q is none of the names that -help shows", name)
	}
	return value, nil
}

func (r *runner) setFilter(v string) error {
	b, err := os.ReadFile(v)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(b)/8)
	if n, err := binary.Decode(b, binary.NativeEndian, filter); err != nil || n != len(b) {
		return errors.New("the file is not a list of instructions of 8 bytes")
	}
	r.cmd.SetSeccompFilter(filter)
	return nil
}

func (r *runner) allowPath(v string) error {
	mode, path, _ := strings.Cut(v, ":")
	rights, err := choice(mode, map[string]spawn.LandlockRights{"ro": spawn.LandlockReadOnly, "rw": spawn.LandlockReadWrite})
	r.landlock.Paths = append(r.landlock.Paths, spawn.LandlockPath{Path: path, Rights: rights})
	r.cmd.SetLandlock(r.landlock)
	return err
}

func (r *runner) allowPort(v string) error {
	action, text, _ := strings.Cut(v, ":")
	rights, err := choice(action, map[string]spawn.LandlockPortRights{"bind": spawn.LandlockBindTCP, "connect": spawn.LandlockConnectTCP})
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return errWant("a port")
	}
	r.landlock.Ports = append(r.landlock.Ports, spawn.LandlockPort{Port: uint16(port), Rights: rights})
	r.cmd.SetLandlock(r.landlock)
	return nil
}

// namespaces are the kinds by their names in /proc/PID/ns.
var namespaces = map[string]spawn.Namespace{
	"cgroup": spawn.CgroupNamespace, "ipc": spawn.IPCNamespace, "mnt": spawn.MountNamespace, "net": spawn.NetworkNamespace,
	"pid": spawn.PIDNamespace, "time": spawn.TimeNamespace, "user": spawn.UserNamespace, "uts": spawn.UTSNamespace,
}

func (r *runner) setNamespaces(v string) error {
	var kinds []spawn.Namespace
	for name := range strings.SplitSeq(v, ",") {
		kind, err := choice(name, namespaces)
		if err != nil {
			return err
		}
		kinds = append(kinds, kind)
	}
	r.cmd.SetNamespaces(kinds...)
	return nil
}

func (r *runner) joinNamespace(v string) error {
	name, path, _ := strings.Cut(v, ":")
	kind, err := choice(name, namespaces)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	r.cmd.JoinNamespace(kind, f) // open until spawnrun ends
	return nil
}

func addMap(maps *[]spawn.IDMap, v string, set func(...spawn.IDMap) *spawn.Command) error {
	n, err := numbers(strings.ReplaceAll(v, ":", ","))
	if err != nil || len(n) != 3 {
		return errWant("INSIDE:OUTSIDE:SIZE")
	}
	*maps = append(*maps, spawn.IDMap{ContainerID: n[0], HostID: n[1], Size: n[2]})
	set(*maps...)
	return nil
}

func (r *runner) setScheduler(v string) error {
	name, rest, more := strings.Cut(v, ":")
	policy, err := choice(name, map[string]spawn.SchedulerPolicy{
		"other": spawn.SchedOther, "batch": spawn.SchedBatch, "idle": spawn.SchedIdle,
		"fifo": spawn.SchedFIFO, "rr": spawn.SchedRR, "deadline": spawn.SchedDeadline,
	})
	if err != nil {
		return err
	}
	s := spawn.Scheduler{Policy: policy}
	switch {
	case policy == spawn.SchedDeadline:
		times := strings.Split(rest, ":")
		if len(times) != 3 {
			return errWant("deadline:RUNTIME:DEADLINE:PERIOD")
		}
		for i, to := range []*time.Duration{&s.Runtime, &s.Deadline, &s.Period} {
			if *to, err = time.ParseDuration(times[i]); err != nil {
				return errWant("durations, as 10ms")
			}
		}
	case more:
		if s.Priority, err = strconv.Atoi(rest); err != nil {
			return errWant("a priority")
		}
	}
	r.cmd.SetScheduler(s)
	return nil
}

func (r *runner) setNUMA(v string) error {
	name, list, more := strings.Cut(v, ":")
	policy, err := choice(name, map[string]spawn.NUMAPolicy{
		"default": spawn.NUMADefault, "preferred": spawn.NUMAPreferred, "bind": spawn.NUMABind,
		"interleave": spawn.NUMAInterleave, "local": spawn.NUMALocal,
	})
	if err != nil {
		return err
	}
	var nodes []int
	if more {
		nodes, err = numbers(list)
	}
	r.cmd.SetNUMAPolicy(policy, nodes...)
	return err
}

func (r *runner) setIOPriority(v string) error {
	name, text, more := strings.Cut(v, ":")
	class, err := choice(name, map[string]spawn.IOPriorityClass{
		"realtime": spawn.IOPriorityRealtime, "best-effort": spawn.IOPriorityBestEffort, "idle": spawn.IOPriorityIdle,
	})
	if err != nil {
		return err
	}
	level := 0
	if more {
		if level, err = strconv.Atoi(text); err != nil {
			return errWant("a level")
		}
	}
	r.cmd.SetIOPriority(class, level)
	return nil
}

func (r *runner) setTTY(v string) error {
	f, err := os.OpenFile(v, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	r.cmd.SetControllingTTY(f) // open until spawnrun ends
	r.away = true
	return nil
}
