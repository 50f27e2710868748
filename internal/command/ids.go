package command

import (
	"errors"
	"os"
)

// checkIDs refuses ids that would leave the program some of the parent's that
// nobody has asked for.
func (c *Command) checkIDs() error {
	ids := &c.IDs
	if ids.SetUID && !ids.SetGID && (ids.UID != os.Getuid() || ids.UID != os.Geteuid()) {
		return &CallError{"SetUID", errors.New("without SetGID or SetUser the program would keep this process's group; SetGID(os.Getgid()) says that it is meant")}
	}
	return nil
}
