package command

import (
	"errors"
	"os"
)

// checkIDs refuses ids that would leave the program some of the parent's that
// nobody has asked for.
func (c *Command) checkIDs() error {
	ids, n := &c.IDs, &c.Namespaces
	switch {
	case n.Joins(newUser) && !(ids.SetUID && ids.SetGID):
		return &CallError{"JoinNamespace", errors.New("in a user namespace that is joined the program needs ids of it, by SetUID and SetGID; 0 and 0 are its root")}
	case ids.SetUID && !ids.SetGID && n.InUser():
		return &CallError{"SetUID", errors.New("in a user namespace it needs SetGID")}
	case ids.SetUID && !ids.SetGID && (ids.UID != os.Getuid() || ids.UID != os.Geteuid()):
		return &CallError{"SetUID", errors.New("without SetGID or SetUser the program would keep this process's group; SetGID(os.Getgid()) says that it is meant")}
	case n.Fresh&newUser == 0, c.Handshake && !n.IsMapped():
		// the caller maps them at the gate
		return nil
	case len(n.UIDMaps) == 0:
		return &CallError{"SetNamespaces", errors.New("in a user namespace without SetUIDMap the program would keep this process's uid outside and have none inside; it needs SetUIDMap")}
	case len(n.GIDMaps) == 0:
		return &CallError{"SetNamespaces", errors.New("in a user namespace without SetGIDMap the program would keep this process's gid outside and have none inside; it needs SetGIDMap")}
	}
	return nil
}
