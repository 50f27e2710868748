package spawn

import (
	"os"
	"slices"
	"strconv"
	"strings"
)

// Variables by which systemd tells a service of its sockets. (sd_listen_fds(3))
const (
	listenPID   = "LISTEN_PID"
	listenPIDFD = "LISTEN_PIDFDID" // another name of LISTEN_PID's process, since systemd 258
	listenFDs   = "LISTEN_FDS"
	listenNames = "LISTEN_FDNAMES"
)

// maxListenName is the longest name that sd_listen_fds_with_names(3) knows, in bytes.
const maxListenName = 255

// AddListenFD passes a socket as systemd does to a service that it activates: as the next descriptor from 3 on, with LISTEN_FDS, the
// number of sockets, LISTEN_FDNAMES, their names, and LISTEN_PID, the program's own pid, in its environment. Values of these variables
// that this process has, or that were added, are replaced, and LISTEN_PIDFDID is left out; all else of the environment is as without.
//
// [net.TCPListener.File] and [net.UnixListener.File] give a file of a listener's socket. It stays the caller's, who keeps it open until
// the running call has returned or [Command.Start] has. The listener is another descriptor of the same socket, which is non-blocking and
// stays so for both processes (NonBlocking=), so that this one can go on to use it. For a program that wants a blocking socket,
// call [os.File.Fd] before; to close the listener then waits for an Accept. A socket can be added twice, under two names.
//
// A name is up to 255 printable ASCII characters without a colon, "unknown" if empty. A number under which [Command.PassFD] or
// [Command.PassFDAs] passes another file is an error. (sd_listen_fds(3), systemd's Sockets= and FileDescriptorName=)
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

// listensOn reports whether the number fd is that of a socket to listen on.
func (c *Command) listensOn(fd int) bool { return fd > stderr && fd <= stderr+len(c.listen) }

// replaces reports whether a variable, given by its name or as name=value, gives way to those for sockets.
func (c *Command) replaces(variable string) bool {
	if c.listen == nil {
		return false
	}
	name, _, _ := strings.Cut(variable, "=")
	return name == listenPID || name == listenPIDFD || name == listenFDs || name == listenNames
}

// variables returns what the command sets in the environment but LISTEN_PID, which is not known before there is a child.
func (c *Command) variables() []variable {
	if c.listen == nil {
		return c.env.vars
	}
	vars := slices.DeleteFunc(slices.Clone(c.env.vars), func(v variable) bool { return c.replaces(v.name) })
	return append(vars,
		variable{name: listenFDs, value: text{s: strconv.Itoa(len(c.listen))}},
		variable{name: listenNames, value: text{s: strings.Join(c.listen, ":")}})
}
