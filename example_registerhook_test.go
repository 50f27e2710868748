//go:build linux

package spawn_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"syscall"

	"github.com/virspawn/spawn"
)

// isSocket looks, in the child, whether a descriptor that the program will have
// is a socket.
var isSocket = spawn.RegisterHook("is-socket", func(arg string) error {
	fd, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return err // which the error of the start unwraps to
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return fmt.Errorf("descriptor %d is no socket", fd)
	}
	return nil
})

func ExampleRegisterHook() {
	file, err := os.Open("/dev/null")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	ctx := context.Background()
	fmt.Println(spawn.New("/bin/true").PassFDAs(file, 3).SetPreExecHook(isSocket, "3").Run(ctx))
	fmt.Println(spawn.New("/bin/true").SetPreExecHook(isSocket, "3").Run(ctx))
	// Output:
	// spawn: cannot start "/bin/true": hook("is-socket"): descriptor 3 is no socket
	// spawn: cannot start "/bin/true": hook("is-socket"): bad file descriptor
}
