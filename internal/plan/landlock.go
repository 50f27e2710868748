//go:build linux

package plan

import (
	"errors"
	"fmt"
	"os"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"golang.org/x/sys/unix"
)

// checkLandlock makes the rules in the parent: the child only has to take them.
func (pl *Plan) checkLandlock() error {
	l := pl.Command.Confinement.Landlock
	if l == nil {
		return nil
	}
	version := min(LandlockVersion(), command.MaxLandlock)
	switch needed := l.Needed(); {
	case version < needed && !l.BestEffort:
		return &command.CallError{Method: "SetLandlock", Err: fmt.Errorf("version %d of Landlock is needed, and the kernel has %d (BestEffort takes less): %w", needed, version, errors.ErrUnsupported)}
	case l.Version != 0:
		version = min(version, l.Version)
	}
	if version == 0 {
		return nil
	}
	fd, err := newRuleset(version)
	if fd, pl.fds.landlock, err = pl.keepNew(fd, os.NewSyscallError("landlock_create_ruleset()", err)); err != nil {
		return pl.Failed(err)
	}
	for _, p := range l.Paths {
		rights := p.Rights & command.LandlockRights(version)
		if rights == 0 {
			continue // best effort
		}
		if err := addPathRule(fd, p.Path, rights); err != nil {
			return &command.CallError{Method: "SetLandlock", Err: &os.PathError{Op: "allow", Path: p.Path, Err: err}}
		}
	}
	for _, p := range l.Ports {
		rights := p.Rights & command.LandlockPortRights(version)
		if rights == 0 {
			continue // best effort
		}
		if err := addPortRule(fd, p.Port, rights); err != nil {
			return &command.CallError{Method: "SetLandlock", Err: fmt.Errorf("allow port %d: %w", p.Port, err)}
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
	defer descriptor.Close(fd)
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
func (pl *Plan) restrictSelf() {
	if pl.fds.landlock >= 0 {
		pl.Program.Add(unix.SYS_LANDLOCK_RESTRICT_SELF, pl.fds.keptFD(pl.fds.landlock), 0)
	}
}
