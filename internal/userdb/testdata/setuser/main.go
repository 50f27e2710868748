// Command setuser runs a program as nobody, and says whom package os/user takes
// for that.
package main

import (
	"context"
	"fmt"
	"os/user"
	"strings"

	"github.com/virspawn/spawn"
)

func main() {
	if u, err := user.Lookup("nobody"); err != nil {
		fmt.Println("os/user:", err)
	} else {
		fmt.Println("os/user:", u.Uid)
	}
	out, err := spawn.New("/bin/sh", "-c", "echo uid=$(id -u) gid=$(id -g) groups=$(id -G)").
		ClearEnv().AddEnv("PATH", "/bin:/usr/bin").SetUser("nobody").Output(context.Background())
	fmt.Println(strings.TrimSpace(string(out)), err)
}
