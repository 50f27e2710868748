//go:build linux

package plan

import (
	"fmt"
	"math/bits"
	"sync"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// LastCap is the highest capability that the kernel knows.
var LastCap = sync.OnceValue(func() int {
	for n := 0; ; n++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err != nil {
			return n - 1
		}
	}
})

func (pl *Plan) checkCapabilities() error {
	s := &pl.Command.Caps
	for _, set := range [...]struct {
		method string
		bits   uint64
	}{{"AllowCap", s.Allowed}, {"SetBoundingCaps", s.Bounding}, {"SetAmbientCaps", s.Ambient}} {
		if n := bits.Len64(set.bits) - 1; n > LastCap() {
			return &command.CallError{Method: set.method, Err: fmt.Errorf("the kernel does not know the capability %s; its last one is %d", program.CapabilityName(n), LastCap())}
		}
	}
	return nil
}

// boundingSet comes before credentials change.
func (pl *Plan) boundingSet() {
	s := &pl.Command.Caps
	bounding := s.Allowed
	if s.SetBounding {
		bounding = s.Bounding
	}
	if s.Limited || s.SetBounding {
		// With the privilege, and in a user namespace, it can be dropped
		// whether it is there or not.
		const setpcap = 1 << unix.CAP_SETPCAP
		drops := pl.inOtherUserNamespace() || ownEffective()&setpcap != 0
		for n := range LastCap() + 1 {
			if bounding&(1<<n) == 0 {
				pl.dropBounding(uintptr(n), drops)
			}
		}
	}
	if s.SetSecurebits && !s.ChangesSets() {
		pl.Program.Add(unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, uintptr(s.Securebits))
	}
	if pl.Command.IDs.SetUID && s.ChangesSets() {
		pl.Program.Add(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1) // until execve
	}
}

// isGone reports whether a capability is known to be in no bounding set
// any more.
func isGone(n uintptr) bool {
	in, known := inBounding(n)
	return known && !in
}

// inBounding reports whether a capability is in this thread's bounding set, and
// whether that is known.
func inBounding(n uintptr) (in, known bool) {
	// The call does not block.
	r, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, n, 0, 0, 0, 0)
	return r == 1, errno == 0
}

// dropBounding drops a capability from the bounding set. Where it has gone
// already, that needs no privilege. In another user namespace the child begins
// with the full set and all privileges, whatever the parent has.
// (user_namespaces(7))
func (pl *Plan) dropBounding(n uintptr, drops bool) {
	if !drops && isGone(n) {
		// Asked again in the child, as the set is that of the thread
		// which clones.
		pl.Program.Expect(pl.Program.Add(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, n), 0)
		return
	}
	pl.Program.Add(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n)
}

// capabilities comes after credentials have changed. The permitted set has
// survived that; the effective one has not.
func (pl *Plan) capabilities() {
	s := &pl.Command.Caps
	if !s.ChangesSets() {
		return
	}
	permitted, inheritable := s.Allowed, s.Allowed
	if !s.Limited {
		permitted, inheritable = ownCaps()
		inheritable |= s.Ambient
	}
	const setpcap = 1 << unix.CAP_SETPCAP
	if s.SetSecurebits {
		pl.capset(permitted|setpcap, inheritable)
	} else {
		pl.capset(permitted, inheritable)
	}
	ambient := s.Allowed
	if s.SetAmbient {
		ambient = s.Ambient
	}
	pl.Program.Add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	for n := range 64 {
		if ambient&(1<<n) != 0 {
			pl.Program.Add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n))
		}
	}
	if s.SetSecurebits {
		pl.Program.Add(unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, uintptr(s.Securebits))
		if permitted&setpcap == 0 {
			pl.capset(permitted, inheritable)
		}
	}
}

// capset sets the permitted and the effective set, and the inheritable one.
func (pl *Plan) capset(permitted, inheritable uint64) {
	pl.capsetAll(permitted, permitted, inheritable)
}

// capsetAll sets the three sets that capset(2) does.
func (pl *Plan) capsetAll(effective, permitted, inheritable uint64) {
	header := pl.Program.Uint32s([]uint32{unix.LINUX_CAPABILITY_VERSION_3, 0})
	data := pl.Program.Uint32s([]uint32{
		uint32(effective), uint32(permitted), uint32(inheritable),
		uint32(effective >> 32), uint32(permitted >> 32), uint32(inheritable >> 32),
	})
	pl.Program.Add(unix.SYS_CAPSET, header, data)
}

// ownCaps returns this thread's sets but the effective one.
func ownCaps() (permitted, inheritable uint64) {
	data := ownCapData()
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, uint64(data[0].Inheritable) | uint64(data[1].Inheritable)<<32
}

// ownEffective returns this thread's effective set.
func ownEffective() uint64 {
	data := ownCapData()
	return uint64(data[0].Effective) | uint64(data[1].Effective)<<32
}

func ownCapData() (data [2]unix.CapUserData) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	_ = unix.Capget(&header, &data[0]) // cannot fail
	return data
}
