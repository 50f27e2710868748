//go:build !linux

package main

import (
	"fmt"
	"os"
)

func run([]string) int {
	fmt.Fprintln(os.Stderr, "supervise: needs Linux: spawn starts programs there only")
	return 1
}
