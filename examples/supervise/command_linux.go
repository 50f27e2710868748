package main

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/virspawn/spawn"
)

// searchPath is the programs' PATH.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// newCommand returns the command for a program. The sockets are those of its
// names, in their order; dir is for its pid file.
func (p *program) newCommand(dir string, sockets []*os.File) *spawn.Command {
	cmd := spawn.New(p.command[0], p.command[1:]...).
		// PATH, and nothing else of this process's environment.
		AddEnv("PATH", searchPath).
		SetWorkingDirectory(p.directory).
		SetUmask(int(p.umask)).
		SetSession().
		SetNoNewPrivs().
		SetPidFile(p.pidFile(dir)).
		PipeStdout().MergeStderr().
		RequireHandshake().
		SetKillMode(spawn.KillTree).
		SetGracePeriod(time.Duration(p.grace)).
		// When this process is killed, and can end nothing any more.
		SetParentDeathSignal(syscall.SIGTERM)
	for _, name := range slices.Sorted(maps.Keys(p.environment)) {
		cmd.AddEnv(name, p.environment[name])
	}
	for resource, n := range p.limits {
		cmd.SetRlimit(int(resource), n, n)
	}
	for i, name := range p.socketNames() {
		cmd.AddListenFD(sockets[i], name)
	}
	root, user := os.Geteuid() == 0, p.user
	if root {
		cmd.ClearCaps()
	}
	if root && user == "" {
		user = "nobody"
	}
	if user != "" {
		cmd.SetUser(user)
	}
	if p.readOnly != nil || p.readWrite != nil {
		cmd.SetLandlock(p.landlock())
	}
	return cmd
}

// landlock confines the program to some files. Version 3 leaves TCP ports, and
// signals to other programs, alone.
func (p *program) landlock() spawn.Landlock {
	l := spawn.Landlock{Version: 3, BestEffort: true}
	for _, path := range p.readOnly {
		l.Paths = append(l.Paths, spawn.LandlockPath{Path: path, Rights: spawn.LandlockReadOnly})
	}
	for _, path := range p.readWrite {
		rights := spawn.LandlockReadWrite | spawn.LandlockRefer | spawn.LandlockTruncate
		l.Paths = append(l.Paths, spawn.LandlockPath{Path: path, Rights: rights})
	}
	return l
}

func (p *program) pidFile(dir string) string { return filepath.Join(dir, p.name+".pid") }

func (p *program) socketNames() []string { return slices.Sorted(maps.Keys(p.listen)) }

// open opens the socket. Closing the listener, which nobody else uses, removes
// what it has in dir.
func (a address) open(dir string) (net.Listener, *os.File, error) {
	if a.network == "unix" {
		a.address = filepath.Join(dir, a.address)
		if st, err := os.Lstat(a.address); err == nil && st.Mode().Type() == os.ModeSocket {
			// Of a supervisor that was killed: nobody else uses the directory.
			_ = os.Remove(a.address)
		}
	}
	l, err := net.Listen(a.network, a.address)
	if err != nil {
		return nil, nil, err
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		l.Close()
		return nil, nil, fmt.Errorf("listen %s: %w", a.address, err)
	}
	f.Fd() // makes the socket a blocking one, which most programs expect
	return l, f, nil
}
