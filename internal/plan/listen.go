//go:build linux

package plan

import (
	"os"

	"github.com/virspawn/spawn/internal/command"
)

// addListenPID adds LISTEN_PID to the program. Its value is filled in when the
// pid is known.
func (pl *Plan) addListenPID() (addr uintptr) {
	addr = pl.Program.PIDText(command.ListenPID + "=")
	if pl.Mode == InPlace {
		pl.Program.SetPID(os.Getpid())
	}
	return addr
}
