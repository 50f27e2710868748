//go:build linux

package spawn_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/virspawn/spawn"
)

func ExampleCommand_RequireHandshake() {
	ctx := context.Background()
	p, err := spawn.New("echo", "the program runs").SetStdout(os.Stdout).SetMaxCoreSize(0).RequireHandshake().Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := p.HandshakeWait(ctx); err != nil {
		log.Fatal(err)
	}
	// Everything is applied, and the program does not run yet: time to tell others of its pid, or to look at it.
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.PID()))
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max core file size") {
			fmt.Println(strings.Join(strings.Fields(line), " "))
		}
	}
	if err := p.HandshakeNotify(); err != nil {
		log.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// Max core file size 0 0 bytes
	// the program runs
}
