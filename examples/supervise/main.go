// Command supervise starts programs, each confined, and keeps them running
// until it gets SIGTERM.
//
//	supervise [-run DIR] FILE
//
// FILE says which programs, and all about them; supervise.conf, beside this
// source, is one to try, as root or as anybody else. DIR is where pid files
// and Unix sockets are made: /run/supervise for root, otherwise supervise in
// $XDG_RUNTIME_DIR.
//
// What the programs write goes to standard output, each line behind the name
// of its program. Standard error has a line about a program whenever its state
// changes, and on SIGUSR1 one about each.
//
// A program that ends is started again after a pause, which doubles each time
// up to a maximum, and is short again once the program has run for a while.
// What it has left behind is killed first. On SIGTERM, SIGINT and SIGHUP all
// programs are ended with all their descendants: they get SIGTERM, and SIGKILL
// after a grace period. No process, pid file or socket is left then, and the
// exit status is 0. It is 1 where supervise could not begin, because of an
// error in FILE for example, and 2 for a bad command line.
//
// Read config_linux.go for what can be said, command_linux.go for what becomes
// of it, and service_linux.go for the life of a program.
package main

import "os"

func main() { os.Exit(run(os.Args[1:])) }
