package spawn

import "strings"

// SetPidFile makes a file that holds the child's pid, as this process sees it, and a line feed, mode 0644, and is locked by the child
// (fcntl(2), F_SETLK) as long as it lives. It has its name before the program runs, and at the gate of [Command.RequireHandshake], and
// never without its whole content.
//
// The lock stays because a descriptor of the file, the lowest from 3 on that is not passed otherwise, stays open in the program. A program
// that closes all that it does not know, or that opens the file by its name and closes it again, gives up its lock; a process that it
// forks does not have it. Before Linux 5.11, where the change is not backported, execve in a process with threads gives up the
// lock: a child by way of a helper, such as one with [Command.SetPreExecHook], does not keep it there, and its file looks stale.
//
// A file that another process has locked is an error of the running call, which names that process and wraps EAGAIN; so is one that this
// process has locked. A file that nobody has locked is stale, and replaced, whatever pid it holds. One that exists already is an error also
// where this process may not write to it.
//
// A relative path is taken from this process's working directory. The file is made as this process's user, whatever credentials the
// child gets; a symbolic link is not followed. If the program cannot be started the file is removed; when the program ends it
// stays, stale. (virCommandSetPidFile, systemd's PIDFile=)
func (c *Command) SetPidFile(path string) *Command {
	if path == "" || strings.HasSuffix(path, "/") {
		c.fail("SetPidFile", "%q is not the path of a file", path)
	}
	c.checkText("SetPidFile", "path", path)
	c.pidFile = path
	return c
}
