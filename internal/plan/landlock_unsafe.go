//go:build linux

package plan

import (
	"unsafe"

	"github.com/virspawn/spawn/internal/command"
	"golang.org/x/sys/unix"
)

// LandlockVersion returns the version that the kernel has, 0 for none.
func LandlockVersion() int {
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// rulesetAttr is the kernel's struct landlock_ruleset_attr. An older kernel
// takes a longer one if the rest is zero.
type rulesetAttr struct{ fs, net, scoped uint64 }

// newRuleset returns the descriptor of a set of rules that refuses everything
// that a version can.
func newRuleset(version int) (fd int, err error) {
	attr := rulesetAttr{command.LandlockRights(version), command.LandlockPortRights(version), command.LandlockScopes(version)}
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// addBeneathRule allows actions on what fd has open.
func addBeneathRule(ruleset, fd int, rights uint64) error {
	// The kernel's struct is packed: 12 bytes, without the padding at this
	// one's end.
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	return addRule(ruleset, unix.LANDLOCK_RULE_PATH_BENEATH, unsafe.Pointer(&attr))
}

// addPortRule allows actions on a TCP port.
func addPortRule(ruleset int, port uint16, rights uint64) error {
	const netPort = 2 // LANDLOCK_RULE_NET_PORT
	attr := [2]uint64{rights, uint64(port)}
	return addRule(ruleset, netPort, unsafe.Pointer(&attr))
}

// addRule adds a rule.
//
// Preconditions: attr points to the struct that belongs to kind.
func addRule(ruleset int, kind uintptr, attr unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), kind, uintptr(attr), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
