package spawn

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// checkLandlock makes the rules, in this process: the child only has to take them.
func (pl *plan) checkLandlock() error {
	l := pl.cmd.confinement.landlock
	if l == nil {
		return nil
	}
	version := min(landlockVersion(), maxLandlock)
	switch needed := l.needed(); {
	case version < needed && !l.bestEffort:
		return &badCall{"SetLandlock", fmt.Errorf("version %d of Landlock is needed, and the kernel has %d: %w", needed, version, errors.ErrUnsupported)}
	case l.version != 0:
		version = min(version, l.version)
	}
	if version == 0 {
		return nil
	}
	fd, err := newRuleset(version)
	if err == nil {
		fd, err = aboveStreams(fd)
	}
	if err != nil {
		return pl.failed(os.NewSyscallError("landlock_create_ruleset()", err))
	}
	fd = low.move(fd)
	pl.childEnds = append(pl.childEnds, fd)
	pl.fds.landlock = pl.fds.keep(fd)
	for _, p := range l.paths {
		rights := p.rights & landlockRights(version)
		if rights == 0 {
			continue // best effort
		}
		if err := addPathRule(fd, p.path, rights); err != nil {
			return &badCall{"SetLandlock", &os.PathError{Op: "allow", Path: p.path, Err: err}}
		}
	}
	for _, p := range l.ports {
		rights := p.rights & landlockPortRights(version)
		if rights == 0 {
			continue // best effort
		}
		if err := addPortRule(fd, p.port, rights); err != nil {
			return &badCall{"SetLandlock", fmt.Errorf("allow port %d: %w", p.port, err)}
		}
	}
	return nil
}

// fileRights are those that something can have that is not a directory.
const fileRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
	unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

func addPathRule(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fileRights
		if rights == 0 {
			return errors.New("the rights are for directories")
		}
	}
	return addBeneathRule(ruleset, fd, rights)
}

// restrictSelf confines the child.
func (pl *plan) restrictSelf() {
	if pl.fds.landlock >= 0 {
		pl.prog.Add(unix.SYS_LANDLOCK_RESTRICT_SELF, pl.fds.keptFD(pl.fds.landlock), 0)
	}
}
