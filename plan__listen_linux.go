package spawn

import (
	"os"
)

// addListenPID adds LISTEN_PID to the program. Its value is filled in when the pid is known.
func (pl *plan) addListenPID() (addr uintptr) {
	addr = pl.prog.PIDText(listenPID + "=")
	if pl.mode == inPlace {
		pl.prog.SetPID(os.Getpid())
	}
	return addr
}
