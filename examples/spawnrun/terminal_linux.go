package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"sync"

	"github.com/virspawn/spawn"
	"golang.org/x/sys/unix"
)

// runOnTerminal runs the program on its terminal until nobody has that open
// any more.
func (r *runner) runOnTerminal(ctx context.Context) (spawn.Status, error) {
	p, err := r.cmd.Start(ctx)
	if err != nil {
		return spawn.Status{ExitCode: -1}, err
	}
	allowSignals, restore := makeRaw()
	defer restore()
	go func() {
		<-p.Done()
		// ^C then ends the wait for what the program has left behind
		allowSignals()
	}()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	go func() {
		for range resized {
			_ = p.Resize(windowSize()) // the program may have ended
		}
	}()
	go func() {
		if _, err := io.Copy(p.PTY(), os.Stdin); err == nil {
			// What a user types at the end of the file; the first one only ends
			// a line that has no end.
			_, _ = p.PTY().Write([]byte{4, 4})
		}
	}()
	if _, err := io.Copy(os.Stdout, p.PTY()); err != nil {
		_ = p.PTY().Close() // nobody sees what it shows
	}
	err = p.Wait()
	return p.Status(), err
}

// windowSize returns the size of the terminal that is spawnrun's standard
// input; 0, 0 if that is none.
func windowSize() (rows, cols uint16) {
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return size.Row, size.Col
}

// makeRaw lets what is typed come as it is, ^C too, if standard input is
// a terminal: the program's terminal does the rest. After allowSignals ^C
// and its like are signals again, after restore all is as before. (cfmakeraw
// in termios(3))
func makeRaw() (allowSignals, restore func()) {
	old, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return func() {}, func() {}
	}
	raw := *old
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	var mu sync.Mutex // one change at a time, and none after restore
	restored := false
	set := func(modes unix.Termios, last bool) {
		mu.Lock()
		defer mu.Unlock()
		if !restored {
			// If this fails, the terminal stays as it is.
			_ = unix.IoctlSetTermios(0, unix.TCSETS, &modes)
		}
		restored = restored || last
	}
	set(raw, false)
	raw.Lflag |= unix.ISIG
	return func() { set(raw, false) }, func() { set(*old, true) }
}
