// Package tree finds, signals and kills the descendants of a process, in
// a cgroup or below a subreaper. It knows nothing of commands.
//
// Only plan, run and the tests import it. Everything here is for Linux.
package tree
