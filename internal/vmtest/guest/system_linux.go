package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// mount is one file system to mount. A kernel may lack an optional one.
type mount struct {
	fstype, dir, data string
	flags             uintptr
	optional          bool
}

const noexec = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// tmp allows setuid programs: tests make some.
var tmp = mount{fstype: "tmpfs", dir: "/tmp", data: "mode=1777", flags: unix.MS_NODEV}

var mounts = []mount{
	{fstype: "proc", dir: "/proc", flags: noexec},
	{fstype: "sysfs", dir: "/sys", flags: noexec},
	{fstype: "devtmpfs", dir: "/dev", flags: unix.MS_NOSUID},
	{fstype: "devpts", dir: "/dev/pts", data: "gid=5,mode=620,ptmxmode=666", flags: unix.MS_NOSUID | unix.MS_NOEXEC},
	{fstype: "tmpfs", dir: "/dev/shm", data: "mode=1777", flags: unix.MS_NOSUID | unix.MS_NODEV},
	{fstype: "tmpfs", dir: "/run", data: "mode=755", flags: unix.MS_NOSUID | unix.MS_NODEV},
	tmp,
	{fstype: "cgroup2", dir: "/sys/fs/cgroup", flags: noexec},
	{fstype: "securityfs", dir: "/sys/kernel/security", flags: noexec, optional: true},
	{fstype: "selinuxfs", dir: "/sys/fs/selinux", flags: unix.MS_NOSUID | unix.MS_NOEXEC, optional: true},
}

func (m mount) mount() error {
	// Optional ones have a directory only when the kernel made it.
	if !m.optional {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
	}
	err := unix.Mount(m.fstype, m.dir, m.fstype, m.flags, m.data)
	if err != nil && !m.optional {
		return fmt.Errorf("mount %s on %s: %w", m.fstype, m.dir, err)
	}
	return nil
}

// freshTmp gives the next run a /tmp without the files of the run before.
func freshTmp() error {
	if err := unix.Unmount(tmp.dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", tmp.dir, err)
	}
	return tmp.mount()
}

// setUpSystem makes what a program expects of a running Linux system.
func setUpSystem() error {
	for _, m := range mounts {
		if err := m.mount(); err != nil {
			return err
		}
	}
	return errors.Join(
		linkDescriptors(),
		unix.Sethostname([]byte("vmtest")),
		setLimits(),
		loopbackUp(),
		enableControllers(),
		// Every applet under its own name, in the directories of PATH.
		runSetup("/bin/busybox --install -s"),
	)
}

// linkDescriptors makes the links that udev makes elsewhere.
func linkDescriptors() error {
	return errors.Join(
		os.Symlink("/proc/self/fd", "/dev/fd"),
		os.Symlink("/proc/self/fd/0", "/dev/stdin"),
		os.Symlink("/proc/self/fd/1", "/dev/stdout"),
		os.Symlink("/proc/self/fd/2", "/dev/stderr"),
	)
}

// setLimits sets what systemd gives a service. It must be the Setrlimit of
// package syscall: the Go runtime raises the soft limit on descriptors of this
// process, and takes that back in its children unless told here.
func setLimits() error {
	limits := map[int]syscall.Rlimit{
		unix.RLIMIT_NOFILE:  {Cur: 1024, Max: 524288},
		unix.RLIMIT_MEMLOCK: {Cur: 8 << 20, Max: 8 << 20},
	}
	for resource, limit := range limits {
		if err := syscall.Setrlimit(resource, &limit); err != nil {
			return fmt.Errorf("setrlimit %d: %w", resource, err)
		}
	}
	return nil
}

// loopbackUp brings up lo; the kernel adds its addresses by itself.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("loopback: SIOCSIFFLAGS: %w", err)
	}
	return nil
}

// enableControllers lets tests set limits in cgroups that they make.
func enableControllers() error {
	const control = "/sys/fs/cgroup/cgroup.subtree_control"
	for _, controller := range []string{"cpu", "io", "memory", "pids"} {
		if err := os.WriteFile(control, []byte("+"+controller), 0); err != nil {
			return err
		}
	}
	return nil
}
