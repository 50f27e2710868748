package spawn

// landlock says what a program may do to files and TCP ports, with the kernel's
// numbers. (landlock(7))
type landlock struct {
	paths      []pathRule
	ports      []portRule
	version    int
	bestEffort bool
}

// pathRule allows actions on a file, or below a directory.
type pathRule struct {
	path   string
	rights uint64
}

// portRule allows actions on a TCP port.
type portRule struct {
	port   uint16
	rights uint64
}

// maxLandlock is the newest version that this package knows.
const maxLandlock = 6

// needed is the oldest version that has the rights asked for.
func (l *landlock) needed() int {
	version := max(l.version, 1)
	for _, p := range l.paths {
		for p.rights&^landlockRights(version) != 0 {
			version++
		}
	}
	for _, p := range l.ports {
		for p.rights&^landlockPortRights(version) != 0 {
			version++
		}
	}
	return version
}

// landlockRights are those on files that a version knows.
func landlockRights(version int) uint64 {
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

// landlockPortRights are those on ports that a version knows.
func landlockPortRights(version int) uint64 {
	if version < 4 {
		return 0
	}
	return 1<<0 | 1<<1
}

// landlockScopes are the kinds of other programs' things that a version keeps the program from.
func landlockScopes(version int) uint64 {
	const abstractUnixSocket, signal = 1 << 0, 1 << 1
	if version < 6 {
		return 0
	}
	return abstractUnixSocket | signal
}
