package command

// Landlock says what a program may do to files and TCP ports, with the kernel's
// numbers. (landlock(7))
type Landlock struct {
	Paths      []PathRule
	Ports      []PortRule
	Version    int
	BestEffort bool
}

// PathRule allows actions on a file, or below a directory.
type PathRule struct {
	Path   string
	Rights uint64
}

// PortRule allows actions on a TCP port.
type PortRule struct {
	Port   uint16
	Rights uint64
}

// MaxLandlock is the newest version that this package knows.
const MaxLandlock = 6

// Needed is the oldest version that has the rights asked for.
func (l *Landlock) Needed() int {
	version := max(l.Version, 1)
	for _, p := range l.Paths {
		for p.Rights&^LandlockRights(version) != 0 {
			version++
		}
	}
	for _, p := range l.Ports {
		for p.Rights&^LandlockPortRights(version) != 0 {
			version++
		}
	}
	return version
}

// LandlockRights are those on files that a version knows.
func LandlockRights(version int) uint64 {
	rights := uint64(1<<13 - 1)
	if version >= 2 {
		rights |= 1 << 13
	}
	if version >= 3 {
		rights |= 1 << 14
	}
	if version >= 5 {
		rights |= 1 << 15
	}
	return rights
}

// LandlockPortRights are those on ports that a version knows.
func LandlockPortRights(version int) uint64 {
	if version < 4 {
		return 0
	}
	return 1<<0 | 1<<1
}

// LandlockScopes are the kinds of other programs' things that a version keeps
// the program from.
func LandlockScopes(version int) uint64 {
	const abstractUnixSocket, signal = 1 << 0, 1 << 1
	if version < 6 {
		return 0
	}
	return abstractUnixSocket | signal
}
