// Command wakealarm sets the alarm of the machine's clock that wakes it up from
// a suspend. The work is done by rtcwake(8) of util-linux.
//
//	wakealarm DURATION
//
// For example, as root:
//
//	wakealarm 8h30m && systemctl suspend
//
// It is what a program would use system(3) for: one program is run to its
// end, with a number among its arguments. main_test.go tests it without
// running rtcwake.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/virspawn/spawn"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

// run returns the exit code.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	after, err := parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "wakealarm: %v\nusage: wakealarm DURATION, as 90m\n", err)
		return 2
	}
	if err := setWakeAlarm(ctx, after); err != nil {
		fmt.Fprintln(stderr, "wakealarm:", err)
		return 1
	}
	return 0
}

func parse(args []string) (time.Duration, error) {
	if len(args) != 1 {
		return 0, errors.New("want one argument")
	}
	after, err := time.ParseDuration(args[0])
	if err == nil && after <= 0 {
		err = fmt.Errorf("%v is not in the future", after)
	}
	return after, err
}

// setWakeAlarm makes the machine wake up after this time, if it is
// suspended then.
func setWakeAlarm(ctx context.Context, after time.Duration) error {
	return spawn.New("rtcwake", "-m", "no", "-s").
		AddArgf("%d", seconds(after)).
		AddEnvPassCommon().
		Run(ctx)
}

// seconds rounds up: never too early, and never 0, which is in the past when
// rtcwake sets it.
func seconds(d time.Duration) int64 {
	n := int64(d / time.Second)
	if d%time.Second > 0 {
		n++
	}
	return n
}
