//go:build linux

package plan

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"github.com/virspawn/spawn/internal/child"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/secure"
	"golang.org/x/sys/unix"
)

// HelperForced reports whether SPAWN_EXECUTOR asks for helpers.
var HelperForced = sync.OnceValue(func() bool { return os.Getenv("SPAWN_EXECUTOR") == "helper" && !secure.Mode() })

// CanClone reports whether a child can be cloned, as far as that is
// known before.
var CanClone = sync.OnceValue(func() bool {
	// Nothing is closed: there is no such descriptor.
	return child.Available && unix.CloseRange(math.MaxUint32, math.MaxUint32, 0) == nil
})

// ChooseExecutor returns who is to run a command.
func ChooseExecutor(c *command.Command, forced bool) (Executor, error) {
	switch {
	case c.Hook != "" && secure.Mode():
		return Direct, &command.CallError{Method: "SetPreExecHook", Err: errors.New("a process that runs setuid or with file capabilities has no helper to run a hook")}
	case !child.Available && secure.Mode():
		return Direct, &command.StartError{Op: "start", Path: c.Name, Err: errNoExecutor}
	case secure.Mode(), c.Hook == "" && CanClone() && !forced:
		return Direct, nil
	case CanClone():
		return ChildAndHelper, nil
	}
	return ForkedHelper, nil
}

var errNoExecutor = fmt.Errorf("no child can be cloned on this processor, and a process that runs setuid or with file capabilities has no helper: %w", errors.ErrUnsupported)
