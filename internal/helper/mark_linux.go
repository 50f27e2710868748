package helper

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A helper is known by an argument with the number of its image's descriptor,
// and by the image itself: no other argument counts, nor its place. What
// executes programs for another processor, or wraps them, may exchange argument
// 0 (binfmt_misc without the flag P) and put arguments of its own in front.
//
// Where that is lost too, a variable of its environment is left, by which
// a process that is no helper, and would be the program a second time, ends
// before its main function.
const (
	argument = Name + ":"
	variable = "SPAWN_HELPER"
)

// daemonMark, behind the number of the image, says that a helper is the daemon
// which another one of the same image has forked.
const daemonMark = "+"

// Args returns the arguments of a helper that finds its image at
// this descriptor.
func Args(image int) []string { return []string{Name, argument + strconv.Itoa(image)} }

// Environ returns the environment of a helper: that of this process, and the
// mark, which is another one for each.
func Environ() []string {
	environ := slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, variable+"=") })
	return append(environ, variable+"="+strconv.FormatUint(rand.Uint64(), 36))
}

// marks are what this process has of a helper's.
type marks struct {
	named  bool     // argument 0
	images []string // what may be the number of an image
	value  string   // of the variable; empty without
}

// takeMarks returns the marks of this process, and takes the variable out of
// its environment: neither a hook nor what it runs is to have it.
func takeMarks() (m marks) {
	m.named = len(os.Args) > 0 && os.Args[0] == Name
	for _, a := range os.Args {
		if number, ok := strings.CutPrefix(a, argument); ok {
			m.images = append(m.images, number)
		}
	}
	if m.value = os.Getenv(variable); m.value != "" {
		_ = os.Unsetenv(variable) // the name is a good one
	}
	return m
}

// none reports whether there are none.
func (m *marks) none() bool { return !m.named && len(m.images) == 0 && m.value == "" }

var errNoMark = errors.New(variable + " in its environment says that it is one, and none of its arguments where its program is")

// open opens the image, if this process has one.
func (m *marks) open() (h *running, err error) {
	err = errNoMark
	for _, number := range m.images {
		if h, err = open(number); err == nil {
			return h, nil
		}
	}
	return nil, err
}

// claim reports whether this process was started as a helper, if it has
// no image that would prove it. An argument by itself may be anybody's.
func (m *marks) claim() bool {
	return m.named && len(m.images) > 0 || m.value != "" && !m.inherited()
}

// inherited reports whether the variable was meant for this process's parent,
// which has started this one before it could take the variable away.
func (m *marks) inherited() bool {
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(os.Getppid()) + "/environ")
	return err == nil && slices.Contains(strings.Split(string(environ), "\x00"), variable+"="+m.value)
}

// refused is the exit code of a process that was started as a helper, and
// cannot be one.
const refused = 126

// refuse ends this process.
func refuse(err error) {
	fmt.Fprintln(os.Stderr, "spawn: this process cannot be a helper:", err)
	os.Exit(refused)
}

// checkOwner refuses an image that somebody else than root and this process's
// user has made.
func checkOwner(stat *unix.Stat_t) error {
	if stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: user %d has made it", errImage, stat.Uid)
	}
	return nil
}
