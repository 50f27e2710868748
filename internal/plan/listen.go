//go:build linux

package plan

import (
	"os"

	"github.com/virspawn/spawn/internal/command"
)

// addListenPID adds LISTEN_PID to the program. Its value is filled in when the
// pid is known.
func (pl *Plan) addListenPID() (addr uintptr) {
	if pl.Mode == InPlace {
		pl.pidText = pl.Program.PIDText(command.ListenPID + "=")
		pl.Program.SetPID(os.Getpid())
	}
	return pl.pidText
}
