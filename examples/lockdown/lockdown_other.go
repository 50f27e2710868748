//go:build !linux

package main

import (
	"fmt"
	"os"
)

func run([]string) int {
	fmt.Fprintln(os.Stderr, "lockdown: needs Linux: spawn starts programs there only")
	return 1
}
