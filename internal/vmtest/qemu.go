package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/virspawn/spawn/internal/vmtest/wire"
)

// platform is what differs between the architectures.
type platform struct {
	program string
	args    []string
	console string
}

var platforms = map[string]platform{
	"amd64": {
		program: "qemu-system-x86_64",
		args:    []string{"-cpu", "max"},
		console: "ttyS0",
	},
	"arm64": {
		program: "qemu-system-aarch64",
		// The architected pointer authentication is slow to emulate.
		args:    []string{"-M", "virt", "-cpu", "max,pauth-impdef=on"},
		console: "ttyAMA0",
	},
	"riscv64": {
		program: "qemu-system-riscv64",
		args:    []string{"-M", "virt"},
		console: "ttyS0",
	},
}

// qemuArgs is QEMU's command line: the console goes to a file, the events of
// the guest, from a serial port on the PCI bus, to QEMU's standard output. That
// port needs no module in any Debian kernel, on any architecture.
func qemuArgs(b *bootable, initrd, console string) []string {
	p := platforms[b.arch]
	params := append([]string{"console=" + p.console, "quiet", "panic=-1", "rdinit=/init"}, b.params...)
	return append(append([]string{}, p.args...),
		// KVM is missing or broken in many places that run tests.
		"-accel", "tcg",
		// A few hundred helpers take some megabytes each, and the files of the
		// machine are in memory.
		"-m", "2048",
		"-nodefaults", "-no-reboot", "-display", "none",
		"-serial", "file:"+console,
		"-chardev", "file,id=events,path=/dev/stdout",
		"-device", "pci-serial,chardev=events",
		"-kernel", b.vmlinuz,
		"-initrd", initrd,
		"-append", strings.Join(params, " "),
	)
}

// boot runs a machine until it powers off and passes its events on.
func boot(ctx context.Context, b *bootable, initrd, console string, f func(wire.Event)) error {
	cmd := exec.CommandContext(ctx, platforms[b.arch].program, qemuArgs(b, initrd, console)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	readErr := wire.Read(stdout, f)
	_, _ = io.Copy(io.Discard, stdout) // so that QEMU never blocks
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the machine was stopped: %w", context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("%s: %w\n%s", cmd.Path, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return readErr
}
