package spawn

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/secure"
	"golang.org/x/sys/unix"
)

// helperForced reports whether SPAWN_EXECUTOR asks for helpers.
var helperForced = sync.OnceValue(func() bool { return os.Getenv("SPAWN_EXECUTOR") == "helper" && !secure.Mode() })

// canClone reports whether a child can be cloned, as far as that is known before.
var canClone = sync.OnceValue(func() bool {
	return child.Available && unix.CloseRange(math.MaxUint32, math.MaxUint32, 0) == nil // there is no such descriptor
})

// chooseExecutor returns who is to run a command.
func chooseExecutor(c *wanted, forced bool) (executor, error) {
	switch {
	case c.hook != "" && secure.Mode():
		return direct, &badCall{"SetPreExecHook", errors.New("a process that runs setuid or with file capabilities has no helper to run a hook")}
	case !child.Available && secure.Mode():
		return direct, &startFailure{Op: "start", Path: c.name, Err: errNoExecutor}
	case secure.Mode(), c.hook == "" && canClone() && !forced:
		return direct, nil
	case canClone():
		return childAndHelper, nil
	}
	return forkedHelper, nil
}

var errNoExecutor = fmt.Errorf("no child can be cloned on this processor, and a process that runs setuid or with file capabilities has no helper: %w", errors.ErrUnsupported)
