// Package early does, where a test asks for it, what another package may do
// while the program is initialised, before the packages of this module are: it
// imports nothing that they do not need too.
//
// Only tests import it.
package early

import (
	"os"
	"time"
)

// Variables of the environment that ask for something.
const (
	// Block is for an initialisation that does not end, where the last argument
	// ends in the same letter, or Always.
	Block  = "SPAWN_TEST_EARLY_BLOCK"
	Always = "always"
	// Exit is for one that ends the process with exit code 5.
	Exit = "SPAWN_TEST_EARLY_EXIT"
	// Run is for one that runs the program itself, with this argument.
	Run = "SPAWN_TEST_EARLY_RUN"
)

func init() {
	last := func(s string) string { return s[max(0, len(s)-1):] }
	if b := os.Getenv(Block); b != "" && (b == Always || last(b) == last(os.Args[len(os.Args)-1])) {
		for {
			time.Sleep(time.Hour)
		}
	}
	if os.Getenv(Exit) != "" {
		os.Exit(5)
	}
	if arg := os.Getenv(Run); arg != "" {
		_ = os.Unsetenv(Run)
		p, err := os.StartProcess("/proc/self/exe", []string{"early", arg}, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
		if err == nil {
			_, err = p.Wait()
		}
		if err != nil {
			os.Stdout.WriteString(err.Error() + "\n")
		}
	}
}
