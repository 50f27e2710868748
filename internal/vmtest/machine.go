package main

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// machine is one kind of virtual machine. A second kind with the same kernel,
// say with a security module turned on, is one more row in [machines].
type machine struct {
	// name is for -kernels and the names of log files.
	name string
	// arch is a GOARCH.
	arch string
	// kernel is a pattern of a file in the cache folder, vmlinuz-VERSION.
	kernel string
	// variant stands behind the version in reports when not empty.
	variant string
	// params go to the kernel in addition to what every machine gets.
	params []string
	// files maps absolute paths in the guest to files in the cache folder.
	files map[string]string
	// setup holds shell command lines that root runs before the tests.
	setup []string
}

// machines is what the tests run on. The script .ci/vm fetches the kernels.
func machines() []machine {
	return []machine{
		{name: "bullseye-amd64", arch: "amd64", kernel: "bullseye-amd64/vmlinuz-*"},
		{name: "bookworm-amd64", arch: "amd64", kernel: "bookworm-amd64/vmlinuz-*"},
		{name: "sid-amd64", arch: "amd64", kernel: "sid-amd64/vmlinuz-*"},
		{name: "bookworm-arm64", arch: "arm64", kernel: "bookworm-arm64/vmlinuz-*"},
	}
}

// bootable is a machine with the kernel that was found for it.
type bootable struct {
	machine
	vmlinuz string // empty when the cache has none
}

// version is that of the kernel, as uname -r prints it.
func (b *bootable) version() string {
	_, version, _ := strings.Cut(filepath.Base(b.vmlinuz), "vmlinuz-")
	return version
}

// title names the machine in reports.
func (b *bootable) title() string {
	title := b.version()
	if title == "" {
		title = b.name
	}
	if b.variant != "" {
		title += "/" + b.variant
	}
	return title
}

// matches reports whether a pattern of -kernels means this machine.
func (b *bootable) matches(pattern string) (bool, error) {
	for _, name := range []string{b.name, b.version(), b.title()} {
		if ok, err := path.Match(pattern, name); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// find returns the machines that pattern means, with their kernels.
func find(all []machine, cache, pattern string) ([]bootable, error) {
	var found []bootable
	for _, m := range all {
		kernels, err := filepath.Glob(filepath.Join(cache, filepath.FromSlash(m.kernel)))
		if err != nil {
			return nil, fmt.Errorf("machine %s: %w", m.name, err)
		}
		b := bootable{machine: m}
		if len(kernels) > 0 {
			b.vmlinuz = kernels[len(kernels)-1]
		}
		ok, err := b.matches(pattern)
		if err != nil {
			return nil, fmt.Errorf("-kernels %s: %w", pattern, err)
		}
		if ok {
			found = append(found, b)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no kernel in %s matches %q: run .ci/vm to fetch kernels", cache, pattern)
	}
	return found, nil
}
