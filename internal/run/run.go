// Package run makes a child of a plan and stays with it to its end. It exports
// four functions for that: Run, Start, Exec and Explain.
//
// Only package spawn and the tests import it. On other systems than Linux each
// of the four says that programs run on Linux only.
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
