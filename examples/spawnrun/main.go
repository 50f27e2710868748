// Command spawnrun runs a program with everything that package spawn can set,
// one flag for each feature.
//
//	spawnrun [flags] -- PROGRAM [ARGUMENT...]
//
// For example:
//
//	spawnrun -user nobody -max-files 64 -umask 077 -clear-env -- \
//		/bin/cat /proc/self/limits
//	spawnrun -explain -rlimit nofile=64:128 -session -- /bin/true
//
// The program gets spawnrun's own standard streams and environment unless
// flags say otherwise, and no other descriptor. With -explain nothing runs: the
// system calls that the child would make are printed.
//
// The exit status is that of the program, or 128 and the number of the signal
// that ended it. It is 127 when the program was not found, 126 when it could
// not be started, and 125 when spawnrun itself failed, because of a bad flag
// for example. SIGTERM and SIGHUP end the program as -timeout does. SIGINT
// and SIGQUIT do so only where a flag takes the program out of the terminal's
// process group; otherwise it gets those from the terminal itself.
//
// Run with -help for the flags. It needs Linux 5.4 or later.
package main

import "os"

func main() { os.Exit(run(os.Args[1:])) }
