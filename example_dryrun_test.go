package spawn_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/virspawn/spawn"
)

// setWakeup is code under test.
func setWakeup(ctx context.Context, seconds int) error {
	return spawn.New("rtcwake", "-m", "no", "-s").AddArgf("%d", seconds).Run(ctx)
}

func ExampleWithDryRun() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		fmt.Println("would run:", call)
		call.Stderr = "rtcwake: no device\n"
		call.ExitCode = 1
	})
	fmt.Println(setWakeup(ctx, 60))
	// Output:
	// would run: rtcwake -m no -s 60
	// spawn: rtcwake -m no -s 60: exit status 1: rtcwake: no device
}

func ExampleSetDryRun() {
	restore := spawn.SetDryRun(func(call *spawn.DryRunCall) {
		call.Err = fs.ErrNotExist // as if it were not installed
	})
	defer restore()
	err := setWakeup(context.Background(), 60)
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output: true
}

// A program that runs until it is told to end, and then says good-bye.
func ExampleDryRunCall_Signals() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		signals := call.Signals()
		call.Stdout = "ready\n"
		call.Flush()
		fmt.Println("got", <-signals == syscall.SIGTERM)
		call.Stdout = "bye\n"
	})
	var out string
	p, err := spawn.New("frobnicated").SetOutputBuffer(&out).Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Abort(), p.Wait())
	fmt.Print(out)
	// Output:
	// got true
	// <nil> <nil>
	// ready
	// bye
}

// A program that answers each piece of its input at once.
func ExampleDryRunCall_Input() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		for {
			var a, b int
			if _, err := fmt.Fscan(call.Input(), &a, &b); err != nil {
				return
			}
			call.Stdout = fmt.Sprintln(a + b)
			call.Flush()
		}
	})
	p, err := spawn.New("adder").PipeStdin().PipeStdout().Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, pair := range []string{"1 2\n", "3 4\n"} {
		fmt.Fprint(p.Stdin(), pair)
		var sum int
		fmt.Fscan(p.Stdout(), &sum)
		fmt.Println(sum)
	}
	p.Stdin().Close()
	fmt.Println(p.Wait())
	p.Stdout().Close()
	// Output:
	// 3
	// 7
	// <nil>
}

// What a program is given, without running it; then for real.
func ExampleDryRunCall_RunReal() {
	ctx := spawn.WithDryRun(context.Background(), func(call *spawn.DryRunCall) {
		fmt.Printf("%q gets %q\n", call.Args, call.Stdin())
		call.RunReal()
	})
	out, err := spawn.New("sort", "-n").SetInput([]byte("10\n9\n")).Output(ctx)
	fmt.Printf("%q %v", out, err)
}
