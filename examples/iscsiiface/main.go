// Command iscsiiface prints the name of the iSCSI interface that has an
// initiator's name. It asks iscsiadm(8) of open-iscsi.
//
//	iscsiiface IQN
//
// For example, as root:
//
//	iscsiiface iqn.2005-06.com.example:madmax
//
// The exit status is 1 when there is none, and 2 when that cannot be said.
//
// It is what a program would use popen(3) for: the output of a program is read
// line by line, as it comes. main_test.go tests it without running iscsiadm.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/virspawn/spawn"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 || !isInitiator(args[0]) {
		fmt.Fprintln(stderr, "usage: iscsiiface IQN, as iqn.2005-06.com.example:madmax")
		return 2
	}
	name, err := findInterface(ctx, args[0])
	if err == nil && name != "" {
		_, err = fmt.Fprintln(stdout, name)
	}
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "iscsiiface:", err)
		return 2
	case name == "":
		fmt.Fprintln(stderr, "iscsiiface: no interface has this initiator's name")
		return 1
	}
	return 0
}

// isInitiator reports whether s can be an initiator's name (RFC 3720, 3.2.6),
// so that <empty>, which iscsiadm writes for none, is none here.
func isInitiator(s string) bool {
	for _, kind := range []string{"iqn.", "eui.", "naa."} {
		if strings.HasPrefix(s, kind) && len(s) > len(kind) {
			return true
		}
	}
	return false
}

// findInterface returns the first interface with this initiator, or an empty
// name. It reads to the end also when it has found one: to leave the loop would
// end iscsiadm, which might hold the lock of its database just then.
func findInterface(ctx context.Context, initiator string) (string, error) {
	found := ""
	for line, err := range spawn.New("iscsiadm", "--mode", "iface").AddEnvPassCommon().Lines(ctx) {
		if err != nil {
			return "", err
		}
		name, of, err := parseInterface(line)
		if err != nil {
			return "", err
		}
		if of == initiator && found == "" {
			found = name
		}
	}
	return found, nil
}

var errFormat = errors.New("iscsiadm writes interfaces in an unknown format")

// parseInterface takes a line apart: NAME
// TRANSPORT,HWADDRESS,IPADDRESS,NETIFACE,INITIATOR.
func parseInterface(line string) (name, initiator string, err error) {
	name, rest, ok := strings.Cut(line, " ")
	values := strings.SplitN(rest, ",", 5)
	if !ok || name == "" || len(values) != 5 {
		return "", "", fmt.Errorf("%w: %q", errFormat, line)
	}
	return name, values[4], nil
}
