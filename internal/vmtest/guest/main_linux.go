// Command guest is the first process of the virtual machines that vmtest boots.
// It sets up a small system, runs the programs of its job one after the other
// and powers off.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/virspawn/spawn/internal/vmtest/wire"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: must be process 1 of a virtual machine")
		os.Exit(1)
	}
	if err := setUpSystem(); err != nil {
		powerOff(err)
	}
	line, err := openLine()
	if err != nil {
		powerOff(err)
	}
	events, err := wire.NewWriter(line)
	if err != nil {
		powerOff(err)
	}
	last := wire.Event{Kind: wire.Done}
	if err = doJob(events); err != nil {
		last = wire.Event{Kind: wire.Problem, Data: []byte(err.Error())}
	}
	powerOff(errors.Join(err, events.Send(last), drain(line)))
}

// powerOff does not return. What err says goes to the console.
func powerOff(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	// Returning would make the kernel panic, which ends the machine too.
	fmt.Fprintln(os.Stderr, "guest: power off:", err)
}

// doJob runs everything that the job says.
func doJob(events *wire.Writer) error {
	text, err := os.ReadFile(wire.JobPath)
	if err != nil {
		return err
	}
	var job wire.Job
	if err := json.Unmarshal(text, &job); err != nil {
		return fmt.Errorf("%s: %w", wire.JobPath, err)
	}
	for _, line := range job.Setup {
		if err := runSetup(line); err != nil {
			return err
		}
	}
	for i := range job.Runs {
		if err := report(events, i, &job.Runs[i]); err != nil {
			return err
		}
	}
	return nil
}

// report does one run and sends what happens.
func report(events *wire.Writer, i int, run *wire.Run) error {
	if err := freshTmp(); err != nil {
		return err
	}
	// On the console, for the reader of kernel messages.
	fmt.Fprintf(os.Stderr, "guest: uid %d: %s\n", run.UID, strings.Join(run.Args, " "))
	if err := events.Send(wire.Event{Kind: wire.Start, Run: i}); err != nil {
		return err
	}
	end, err := execute(run, func(data []byte) error {
		return events.Send(wire.Event{Kind: wire.Output, Run: i, Data: data})
	})
	if err != nil {
		return err
	}
	end.Kind, end.Run = wire.End, i
	return events.Send(end)
}

// openLine opens the serial line for events: the one on the PCI bus, which
// is how the host tells it from the console on every architecture. Its name
// depends on the ports that the kernel found before.
func openLine() (*os.File, error) {
	ports, err := filepath.Glob("/sys/class/tty/ttyS*")
	if err != nil {
		return nil, err
	}
	for _, port := range ports {
		device, err := filepath.EvalSymlinks(port)
		if err == nil && strings.Contains(device, "/pci0000:") {
			return openRaw("/dev/" + filepath.Base(port))
		}
	}
	return nil, errors.New("found no serial port on the PCI bus")
}

// openRaw opens a terminal so that bytes pass unchanged.
func openRaw(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	termios, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: TCGETS: %w", path, err)
	}
	termios.Oflag &^= unix.OPOST
	termios.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, termios); err != nil {
		return nil, fmt.Errorf("%s: TCSETS: %w", path, err)
	}
	return f, nil
}

// drain waits until the terminal has sent everything.
func drain(f *os.File) error {
	return unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1)
}
