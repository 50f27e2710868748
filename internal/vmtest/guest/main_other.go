//go:build !linux

package main

import "fmt"

func main() {
	fmt.Println("guest is the first process of a Linux guest: see internal/vmtest")
}
