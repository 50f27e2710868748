// Package secure knows whether an unprivileged user has chosen the environment
// of this process.
package secure

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Mode reports whether this process runs setuid, setgid or with file
// capabilities: an unprivileged user has then chosen its environment.
// (AT_SECURE in getauxval(3))
var Mode = sync.OnceValue(func() bool {
	const atSecure = 23
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		return true
	}
	auxv, err := unix.Auxv()
	if err != nil {
		// Not known to be safe: so it is with file capabilities, where the
		// process may not read its own auxv.
		return true
	}
	for _, entry := range auxv {
		if entry[0] == atSecure {
			return entry[1] != 0
		}
	}
	return false
})
