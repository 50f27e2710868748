//go:build linux

// Command seccomp runs a program that may do everything but the system
// calls named:
//
//	go run . mkdir,mkdirat -- mkdir /tmp/new
//
// It shows how a filter that another library has built is given to
// package spawn.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/virspawn/spawn"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 4 || os.Args[2] != "--" {
		fmt.Fprintln(os.Stderr, "usage: seccomp NAME,... -- PROGRAM [ARGUMENT...]")
		os.Exit(2)
	}
	filter, err := filterOf(strings.Split(os.Args[1], ","))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	cmd := spawn.New(os.Args[3], os.Args[4:]...).SetSeccompFilter(filter).InheritStdio()
	var exit *spawn.ExitError
	switch err := cmd.Run(context.Background()); {
	case errors.As(err, &exit) && exit.Status.ExitCode > 0:
		os.Exit(exit.Status.ExitCode)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// filterOf returns a filter that refuses these system calls with EPERM and
// allows all others. Names that this architecture does not have, mkdir on arm64
// for example, are left out.
func filterOf(names []string) ([]unix.SockFilter, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	known := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, ok := info.SyscallNames[name]
		return !ok
	})
	if len(known) == 0 {
		return nil, fmt.Errorf("%s has no system call of %v", info.Name, names)
	}
	policy := seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls:      []seccomp.SyscallGroup{{Names: known, Action: seccomp.ActionErrno}},
	}
	program, err := policy.Assemble()
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return filter, nil
}
