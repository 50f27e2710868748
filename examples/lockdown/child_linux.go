package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// seen is what a child sees of its surroundings.
type seen struct {
	Descriptors []descriptor // beyond the three standard streams
	Environment []string     // names
	Status      string       // /proc/self/status
	Limits      string       // /proc/self/limits
}

// descriptor is one that the child was given.
type descriptor struct {
	Number int
	Target string // what /proc says that it is
	Secret bool   // the child can read the secret from it
}

// report is what the child does: it writes what it sees.
func report(w io.Writer) error {
	var s seen
	var err error
	if s.Descriptors, err = inherited(); err != nil {
		return err
	}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		s.Environment = append(s.Environment, name)
	}
	if s.Status, err = toString(os.ReadFile("/proc/self/status")); err != nil {
		return err
	}
	if s.Limits, err = toString(os.ReadFile("/proc/self/limits")); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(s)
}

func parseReport(text []byte) (*seen, error) {
	s := &seen{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("the child's report: %w", err)
	}
	return s, nil
}

// inherited returns the descriptors that this process was started with, beyond
// the standard streams. Those that it has opened itself, or the Go runtime has,
// are close-on-exec, and inherited ones cannot be.
func inherited() ([]descriptor, error) {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []descriptor
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil || n <= unix.Stderr {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		target, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			return nil, err
		}
		found = append(found, descriptor{n, target, holdsSecret(n)})
	}
	slices.SortFunc(found, func(a, b descriptor) int { return a.Number - b.Number })
	return found, nil
}

// holdsSecret reports whether the secret can be read from a descriptor.
func holdsSecret(fd int) bool {
	b := make([]byte, len(secret))
	// This fails for sockets, pipes and directories, without waiting.
	n, err := unix.Pread(fd, b, 0)
	return err == nil && string(b[:n]) == secret
}
