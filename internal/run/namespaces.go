//go:build linux

package run

import (
	"strconv"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/descriptor"
	"github.com/virspawn/spawn/internal/plan"
	"golang.org/x/sys/unix"
)

// writeMaps writes the maps of the child's user namespace.
func (r *run) writeMaps(pid int) error {
	n := &r.Command.Namespaces
	proc := "/proc/" + strconv.Itoa(pid) + "/"
	files := []struct{ name, text string }{
		{"uid_map", command.MapText(n.UIDMaps)},
		{"setgroups", ""},
		{"gid_map", command.MapText(n.GIDMaps)},
	}
	if len(n.GIDMaps) > 0 && plan.DeniesSetgroups(n) {
		files[1].text = "deny"
	}
	for _, f := range files {
		if f.text == "" {
			continue
		}
		if err := writeOnce(proc+f.name, f.text); err != nil {
			return &command.StartError{Op: "write " + strconv.Quote(f.text) + " to " + proc + f.name, Path: r.Path, Err: err}
		}
	}
	return nil
}

// writeOnce writes to a file of /proc, which takes all in one write or nothing.
func writeOnce(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer descriptor.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}
