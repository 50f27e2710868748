package secure

import (
	"os"
	"slices"
	"strings"
)

// Path takes the place of PATH where Mode is true.
const Path = "/bin:/usr/bin"

// Environ returns the environment of this process. Where Mode is true, it has
// none of the variables by which a C library loads code or reads files: a
// program that is linked with one has them no longer when it starts.
// (secure-execution mode in ld.so(8))
func Environ() []string {
	if !Mode() {
		return os.Environ()
	}
	return slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "MALLOC_") || slices.Contains(droppedNames[:], name)
	})
}

var droppedNames = [...]string{
	"GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH", "NIS_PATH", "NLSPATH",
	"RESOLV_HOST_CONF", "RES_OPTIONS", "TMPDIR", "TZDIR",
}
