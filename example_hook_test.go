//go:build linux

package spawn_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"syscall"

	"github.com/virspawn/spawn"
)

// handOver gives a file to the program's user, as long as it still may, and
// says so on a descriptor that the program gets too.
var handOver = spawn.RegisterHook("hand-over", func(arg string) error {
	var uid int
	var path string
	if _, err := fmt.Sscan(arg, &uid, &path); err != nil {
		return err
	}
	if err := os.Chown(path, uid, -1); err != nil {
		return err
	}
	_, err := syscall.Write(3, []byte("ready\n"))
	return err
})

func ExampleCommand_SetPreExecHook() {
	file, err := os.CreateTemp("", "") // mode 0600
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	fmt.Fprintln(file, "for the program")
	file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	uid := os.Getuid()
	if uid == 0 {
		uid = 65534 // nobody, who may not change owners
	}
	out, err := spawn.New("cat", file.Name()).
		SetUID(uid).
		PassFDAs(w, 3, spawn.CloseParent).
		SetPreExecHook(handOver, fmt.Sprint(uid, " ", file.Name())).
		Output(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	said, _ := io.ReadAll(r)
	r.Close()
	fmt.Printf("%s%s", said, out)
	// Output:
	// ready
	// for the program
}
