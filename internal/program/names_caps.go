//go:build linux

package program

import (
	"encoding/binary"
	"maps"
	"strconv"
	"strings"

	caps "github.com/syndtr/gocapability/capability"
	"golang.org/x/sys/unix"
)

func init() {
	maps.Copy(calls, map[uintptr]call{
		unix.SYS_CAPSET:  {name: "capset", args: []format{pointer, pointer}, sized: capSets},
		unix.SYS_PRCTL:   {name: "prctl", args: []format{signed, hex, hex, hex, hex}, variant: prctl},
		unix.SYS_SECCOMP: {name: "seccomp", args: []format{seccompMode, hex, filterProgram}},
	})
}

// prctlOptions says how each option prints with its arguments.
var prctlOptions = map[uintptr]call{
	unix.PR_CAPBSET_DROP:        {name: "PR_CAPBSET_DROP", args: []format{capability}},
	unix.PR_CAPBSET_READ:        {name: "PR_CAPBSET_READ", args: []format{capability}},
	unix.PR_CAP_AMBIENT:         {name: "PR_CAP_AMBIENT", args: []format{ambientCommand, capability}},
	unix.PR_SET_DUMPABLE:        {name: "PR_SET_DUMPABLE", args: []format{unsigned}},
	unix.PR_SET_CHILD_SUBREAPER: {name: "PR_SET_CHILD_SUBREAPER", args: []format{unsigned}},
	unix.PR_SCHED_CORE:          {name: "PR_SCHED_CORE", args: []format{coreCommand, signed, coreScope, pointer}},
	unix.PR_SET_KEEPCAPS:        {name: "PR_SET_KEEPCAPS", args: []format{unsigned}},
	unix.PR_SET_MDWE:            {name: "PR_SET_MDWE", args: []format{mdwe}},
	unix.PR_SET_NO_NEW_PRIVS:    {name: "PR_SET_NO_NEW_PRIVS", args: []format{unsigned}},
	unix.PR_SET_PDEATHSIG:       {name: "PR_SET_PDEATHSIG", args: []format{signal}},
	unix.PR_SET_SECUREBITS:      {name: "PR_SET_SECUREBITS", args: []format{securebits}},
	unix.PR_SET_THP_DISABLE:     {name: "PR_SET_THP_DISABLE", args: []format{unsigned}},
	unix.PR_SET_TIMERSLACK:      {name: "PR_SET_TIMERSLACK", args: []format{unsigned}},
}

// prctl returns how an option prints.
func prctl(args []uintptr) (c call, ok bool) {
	option, ok := prctlOptions[args[0]]
	if !ok {
		return call{}, false
	}
	if args[0] == unix.PR_CAP_AMBIENT && args[1] == unix.PR_CAP_AMBIENT_CLEAR_ALL {
		option.args = option.args[:1]
	}
	name := option.name
	first := func(*Program, uintptr) string { return name }
	return call{name: "prctl", args: append([]format{first}, option.args...)}, true
}

var mdwe = flags("0",
	flagName{unix.PR_MDWE_REFUSE_EXEC_GAIN, "PR_MDWE_REFUSE_EXEC_GAIN"},
	flagName{unix.PR_MDWE_NO_INHERIT, "PR_MDWE_NO_INHERIT"},
)

var securebits = flags("0",
	flagName{1 << 0, "SECBIT_NOROOT"},
	flagName{1 << 1, "SECBIT_NOROOT_LOCKED"},
	flagName{1 << 2, "SECBIT_NO_SETUID_FIXUP"},
	flagName{1 << 3, "SECBIT_NO_SETUID_FIXUP_LOCKED"},
	flagName{1 << 4, "SECBIT_KEEP_CAPS"},
	flagName{1 << 5, "SECBIT_KEEP_CAPS_LOCKED"},
	flagName{1 << 6, "SECBIT_NO_CAP_AMBIENT_RAISE"},
	flagName{1 << 7, "SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED"},
)

var ambientCommand = enum(map[uintptr]string{
	unix.PR_CAP_AMBIENT_CLEAR_ALL: "PR_CAP_AMBIENT_CLEAR_ALL",
	unix.PR_CAP_AMBIENT_RAISE:     "PR_CAP_AMBIENT_RAISE",
})

var seccompMode = enum(map[uintptr]string{unix.SECCOMP_SET_MODE_FILTER: "SECCOMP_SET_MODE_FILTER"})

// filterProgram prints a struct sock_fprog.
func filterProgram(p *Program, addr uintptr) string {
	n := binary.NativeEndian.Uint16(p.Bytes(addr, 2))
	return "{len=" + strconv.Itoa(int(n)) + ", filter=" + pointer(p, p.pointer(addr+pointerSize)) + "}"
}

func capability(_ *Program, v uintptr) string { return CapabilityName(int(v)) }

// CapabilityName returns the name of capability n, or its number.
func CapabilityName(n int) string {
	name := caps.Cap(n).String()
	if name == "unknown" {
		return strconv.Itoa(n)
	}
	return "CAP_" + strings.ToUpper(name)
}

// capSets prints the header and the sets of a capset(2).
func capSets(p *Program, args []uintptr, printed []string) {
	word := func(i int) uint32 { return binary.NativeEndian.Uint32(p.Bytes(args[1]+uintptr(i*4), 4)) }
	set := func(i int) string {
		bits := uint64(word(i)) | uint64(word(i+3))<<32
		var names []string
		for n := range 64 {
			if bits&(1<<n) != 0 {
				names = append(names, capability(p, uintptr(n)))
			}
		}
		if names == nil {
			return "0"
		}
		return strings.Join(names, "|")
	}
	printed[0] = "{version=_LINUX_CAPABILITY_VERSION_3, pid=0}"
	printed[1] = "{effective=" + set(0) + ", permitted=" + set(1) + ", inheritable=" + set(2) + "}"
}
