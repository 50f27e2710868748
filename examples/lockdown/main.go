// Command lockdown shows what a child process gets from a careless parent: once
// started by os/exec, once by spawn.
//
// It opens files without close-on-exec, puts a password into its environment,
// ignores signals and clears its umask, as large programs do somewhere in their
// libraries. Then it starts the same child twice, a mode of itself that reports
// what it finds, and prints both reports side by side, with the time that
// each way takes. The end is the list of system calls by which spawn came to
// its result.
//
//	go run ./examples/lockdown
//
// Run by root it also changes the child's user, which an ordinary user cannot.
// It needs Linux 5.9 or later.
package main

import "os"

func main() { os.Exit(run(os.Args[1:])) }
