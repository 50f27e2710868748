package run

import (
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/process"
)

// Call is a running call of a command.
type Call struct {
	Command *command.Command
	Streams command.Streams
	Options plan.Options    // the executor is chosen unless it is given
	Method  string          // of the face, for an error
	Watcher process.Watcher // nil: nobody is told
}

// Options say how the runs of a command are to be planned: the zero value is
// good for all that nobody has looked at before.
type Options = plan.Options
