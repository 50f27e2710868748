package spawn

import (
	"os"
	"strconv"
	"strings"
)

// Variables by which systemd tells a service of its sockets. (sd_listen_fds(3))
const (
	listenPID   = "LISTEN_PID"
	listenFDs   = "LISTEN_FDS"
	listenNames = "LISTEN_FDNAMES"
)

// maxListenName is the longest name that sd_listen_fds_with_names(3) knows, in bytes.
const maxListenName = 255

// AddListenFD passes a socket as systemd does to a service that it activates: as the next descriptor from 3 on, with LISTEN_FDS, the
// number of sockets, LISTEN_FDNAMES, their names, and LISTEN_PID, the program's own pid, in its environment. Values of these variables that
// this process has, or that were added, are replaced. The file stays the caller's, who keeps it open until the running call
// has returned or [Command.Start] has; [net.TCPListener.File] gives one.
//
// A name is up to 255 printable ASCII characters without a colon, "unknown" if empty. A number that is also given to [Command.PassFDAs] is an error.
// (sd_listen_fds(3), systemd's Sockets= and FileDescriptorName=)
func (c *Command) AddListenFD(f *os.File, name string) *Command {
	const method = "AddListenFD"
	if fileNumber(f) < 0 {
		c.fail(method, "the file %s", notOpen(f))
		return c
	}
	if name == "" {
		name = "unknown"
	}
	bad := func(r rune) bool { return r < ' ' || r > '~' || r == ':' }
	if len(name) > maxListenName || strings.ContainsFunc(name, bad) {
		c.fail(method, "the name %q is not up to %d printable ASCII characters without a colon", name, maxListenName)
	}
	c.pass(method, f, stderr+1+len(c.listen), nil)
	c.listen = append(c.listen, name)
	return c
}

// isListenVariable reports whether a variable, or a string that starts with its name and an equals sign, is replaced.
func (c *Command) isListenVariable(pair string) bool {
	if c.listen == nil {
		return false
	}
	name, _, _ := strings.Cut(pair, "=")
	return name == listenPID || name == listenFDs || name == listenNames
}

// listenEnv returns the variables but LISTEN_PID.
func (c *Command) listenEnv() []string {
	return []string{listenFDs + "=" + strconv.Itoa(len(c.listen)), listenNames + "=" + strings.Join(c.listen, ":")}
}
