package spawn

import (
	"fmt"
	"math/bits"
	"sync"

	"github.com/virspawn/spawn/internal/program"
	"golang.org/x/sys/unix"
)

// lastCap is the highest capability that the kernel knows.
var lastCap = sync.OnceValue(func() int {
	for n := 0; ; n++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err != nil {
			return n - 1
		}
	}
})

func (pl *plan) checkCapabilities() error {
	s := &pl.cmd.caps
	for _, set := range [...]struct {
		method string
		bits   uint64
	}{{"AllowCap", s.allowed}, {"SetBoundingCaps", s.bounding}, {"SetAmbientCaps", s.ambient}} {
		if n := bits.Len64(set.bits) - 1; n > lastCap() {
			return &badCall{set.method, fmt.Errorf("the kernel does not know the capability %s; its last one is %d", program.CapabilityName(n), lastCap())}
		}
	}
	return nil
}

// boundingSet comes before credentials change.
func (pl *plan) boundingSet() {
	s := &pl.cmd.caps
	bounding := s.allowed
	if s.setBounding {
		bounding = s.bounding
	}
	for n := 0; n <= lastCap() && (s.limited || s.setBounding); n++ {
		if bounding&(1<<n) == 0 {
			pl.dropBounding(uintptr(n))
		}
	}
	if s.setSecurebits && !s.changesSets() {
		pl.prog.Add(unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, uintptr(s.securebits))
	}
	if pl.cmd.ids.setUID && s.changesSets() {
		pl.prog.Add(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1) // until execve
	}
}

// dropBounding drops a capability from the bounding set. Where it has gone already, that needs no privilege.
func (pl *plan) dropBounding(n uintptr) {
	if in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, n, 0, 0, 0); err == nil && in == 0 {
		// Asked again in the child, as the set is that of the thread which clones.
		pl.prog.Expect(pl.prog.Add(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, n), 0)
		return
	}
	pl.prog.Add(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n)
}

// capabilities comes after credentials have changed. The permitted set has survived that; the effective one has not.
func (pl *plan) capabilities() {
	s := &pl.cmd.caps
	if !s.changesSets() {
		return
	}
	permitted, inheritable := s.allowed, s.allowed
	if !s.limited {
		permitted, inheritable = ownCaps()
		inheritable |= s.ambient
	}
	const setpcap = 1 << unix.CAP_SETPCAP
	if s.setSecurebits {
		pl.capset(permitted|setpcap, inheritable)
	} else {
		pl.capset(permitted, inheritable)
	}
	ambient := s.allowed
	if s.setAmbient {
		ambient = s.ambient
	}
	pl.prog.Add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	for n := range 64 {
		if ambient&(1<<n) != 0 {
			pl.prog.Add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n))
		}
	}
	if s.setSecurebits {
		pl.prog.Add(unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, uintptr(s.securebits))
		if permitted&setpcap == 0 {
			pl.capset(permitted, inheritable)
		}
	}
}

// capset sets the permitted and the effective set, and the inheritable one.
func (pl *plan) capset(permitted, inheritable uint64) {
	header := pl.prog.Uint32s([]uint32{unix.LINUX_CAPABILITY_VERSION_3, 0})
	low, high := uint32(permitted), uint32(permitted>>32)
	data := pl.prog.Uint32s([]uint32{low, low, uint32(inheritable), high, high, uint32(inheritable >> 32)})
	pl.prog.Add(unix.SYS_CAPSET, header, data)
}

// ownCaps returns this thread's sets.
func ownCaps() (permitted, inheritable uint64) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return 0, 0
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, uint64(data[0].Inheritable) | uint64(data[1].Inheritable)<<32
}
