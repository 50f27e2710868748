package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// program is what a section of the configuration says.
type program struct {
	where string // file and line of the section
	name  string

	command     []string
	environment map[string]string
	directory   string
	umask       octal
	limits      map[resource]uint64
	user        string
	readOnly    []string
	readWrite   []string
	listen      map[string]address

	restart  restart
	pause    duration
	maxPause duration
	stable   duration
	grace    duration
}

// newProgram returns a program of which nothing is said but its name.
func newProgram(where, name string) *program {
	return &program{
		where: where, name: name, directory: "/", umask: 0o077, restart: onFailure,
		pause: duration(time.Second), maxPause: duration(time.Minute), stable: duration(10 * time.Second), grace: duration(5 * time.Second),
	}
}

// keys returns where the value of each key goes.
func (p *program) keys() map[string]any {
	return map[string]any{
		"command": &p.command, // an absolute path, and arguments
		// Variables besides PATH, which there is always.
		"environment": &p.environment,
		"directory":   &p.directory,
		"umask":       &p.umask,
		// By the names of resources, without RLIMIT_, in lower case.
		"limits": &p.limits,
		// The default is nobody for root's supervisor, and the user of
		// any other.
		"user": &p.user,
		// With this or the next, the program can use no other files than these,
		// and those below them, if the kernel has Landlock.
		"read-only":  &p.readOnly,
		"read-write": &p.readWrite,
		// Sockets to be passed as systemd does it, by name.
		"listen":    &p.listen,
		"restart":   &p.restart,
		"pause":     &p.pause,    // before the first restart
		"max-pause": &p.maxPause, // before any
		// A program that has run for so long begins anew with pause.
		"stable": &p.stable,
		"grace":  &p.grace, // between SIGTERM and SIGKILL
	}
}

// parse reads a configuration: programs, each a line [NAME] and lines
// KEY = VALUE, where the value is written as in JSON.
func parse(file string) (programs []*program, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var seen map[string]bool // keys of the last program
	for n, line := range slices.Collect(strings.Lines(string(text))) {
		where := fmt.Sprintf("%s:%d", file, n+1)
		line = strings.TrimSpace(line)
		switch name, isSection := section(line); {
		case line == "" || line[0] == '#':
		case isSection:
			if slices.ContainsFunc(programs, func(p *program) bool { return p.name == name }) {
				return nil, fmt.Errorf("%s: there is a program %s already", where, name)
			}
			programs, seen = append(programs, newProgram(where, name)), map[string]bool{}
		case len(programs) == 0:
			return nil, fmt.Errorf("%s: neither [NAME], which begins a program, nor a comment", where)
		default:
			if err := programs[len(programs)-1].set(line, seen); err != nil {
				return nil, fmt.Errorf("%s: %w", where, err)
			}
		}
	}
	if len(programs) == 0 {
		return nil, fmt.Errorf("%s: no program", file)
	}
	for _, p := range programs {
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", p.where, p.name, err)
		}
	}
	return programs, nil
}

// section reports whether a line begins a program, whose name becomes that of
// a file.
func section(line string) (name string, ok bool) {
	name, begins := strings.CutPrefix(line, "[")
	name, ends := strings.CutSuffix(name, "]")
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	return name, begins && ends && name != "" && strings.Trim(name, allowed) == ""
}

// set sets what a line KEY = VALUE says.
func (p *program) set(line string, seen map[string]bool) error {
	key, value, found := strings.Cut(line, "=")
	if !found {
		return fmt.Errorf("%q is neither [NAME] nor KEY = VALUE", line)
	}
	key = strings.TrimSpace(key)
	keys := p.keys()
	to, known := keys[key]
	switch {
	case !known:
		return fmt.Errorf("unknown key %q; known are %s", key, strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
	case seen[key]:
		return fmt.Errorf("%s was set before", key)
	}
	seen[key] = true
	err := json.Unmarshal([]byte(value), to)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("%s: a %s cannot stand here", key, wrong.Value)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// check checks what no single line says. What a program's command refuses, an
// unknown user for example, is found by [newService].
func (p *program) check() error {
	switch {
	case len(p.command) == 0:
		return errors.New("no command")
	case !strings.HasPrefix(p.command[0], "/"):
		return fmt.Errorf("command: %q is not an absolute path", p.command[0])
	case !strings.HasPrefix(p.directory, "/"):
		return fmt.Errorf("directory: %q is not an absolute path", p.directory)
	case p.maxPause < p.pause:
		return fmt.Errorf("max-pause: %v is less than the pause of %v", time.Duration(p.maxPause), time.Duration(p.pause))
	}
	return nil
}

// duration is positive, and written as "1m30s".
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err == nil && parsed <= 0 {
		err = fmt.Errorf("%v is not positive", parsed)
	}
	*d = duration(parsed)
	return err
}

// octal is the number of a umask, written as "027".
type octal int

func (o *octal) UnmarshalText(text []byte) error {
	parsed, err := strconv.ParseUint(string(text), 8, 9)
	if err != nil {
		return fmt.Errorf("%q is not an octal number up to 777", text)
	}
	*o = octal(parsed)
	return nil
}

// resource is the number of a resource that can be limited. (getrlimit(2))
type resource int

var resources = map[string]resource{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"memlock": unix.RLIMIT_MEMLOCK, "nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "stack": unix.RLIMIT_STACK,
}

func (r *resource) UnmarshalText(text []byte) error {
	known, ok := resources[string(text)]
	if !ok {
		return fmt.Errorf("%q is none of %s", text, strings.Join(slices.Sorted(maps.Keys(resources)), ", "))
	}
	*r = known
	return nil
}

// address is where to listen: tcp:HOST:PORT, or unix:NAME for a socket with
// this name in the supervisor's directory.
type address struct{ network, address string }

func (a *address) UnmarshalText(text []byte) error {
	a.network, a.address, _ = strings.Cut(string(text), ":")
	isPath := a.network == "unix" && a.address != "" && !strings.Contains(a.address, "/")
	if a.network != "tcp" && !isPath {
		return fmt.Errorf("%q is neither tcp:HOST:PORT nor unix:NAME", text)
	}
	return nil
}

// restart says when a program that has ended is started again.
type restart string

const (
	never     restart = "never"
	onFailure restart = "on-failure" // unless it ended with exit status 0
	always    restart = "always"
)

func (r *restart) UnmarshalText(text []byte) error {
	*r = restart(text)
	if !slices.Contains([]restart{never, onFailure, always}, *r) {
		return fmt.Errorf("%q is none of never, on-failure, always", text)
	}
	return nil
}

// wanted reports whether a program that has ended with err is to be
// started again.
func (r restart) wanted(err error) bool { return r == always || r == onFailure && err != nil }
