package main

import (
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

const (
	secretName = "DATABASE_PASSWORD"
	secret     = "correct horse battery staple"
)

// beCareless brings this process into a state that children should not inherit.
// The function that it returns removes the secret file; the rest ends with
// this process.
func beCareless() (undo func(), err error) {
	f, err := os.CreateTemp("", "lockdown-")
	if err != nil {
		return nil, err
	}
	// In a directory for temporary files it does no harm.
	undo = func() { _ = os.Remove(f.Name()) }
	defer f.Close()
	if _, err := f.WriteString(secret); err != nil {
		undo()
		return nil, err
	}
	if err := openWithoutCloexec(f.Name()); err != nil {
		undo()
		return nil, err
	}
	unix.Umask(0)
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE, unix.SIGUSR1)
	return undo, os.Setenv(secretName, secret)
}

// openWithoutCloexec opens descriptors as C libraries often do. They stay open
// until this process ends.
func openWithoutCloexec(path string) error {
	if _, err := unix.Open(path, unix.O_RDONLY, 0); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if _, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return fmt.Errorf("open /: %w", err)
	}
	if _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	return nil
}
