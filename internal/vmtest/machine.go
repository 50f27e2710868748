package main

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
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
	// tests is a regexp for tests that are run here, where that is not all of
	// them and none are asked for.
	tests string
	// setup holds shell command lines that root runs before the tests.
	setup []string
}

// machines is what the tests run on: each kernel with each of the security
// modules that give programs labels. The slowest come first, so that none
// of them runs alone in the end. The script .ci/vm fetches the kernels and
// compiles the policies.
func machines() []machine {
	// A processor that the child's assembly is not written for: helpers run
	// everything, which takes so long here that only kernelTests are run. All
	// are, by helpers, as programs for 386, see .ci/run.
	riscv := machine{name: "sid-riscv64", arch: "riscv64", kernel: "sid-riscv64/vmlinuz-*", tests: kernelTests}
	all := []machine{riscv.withAppArmor()}
	for _, m := range []machine{
		{name: "bookworm-arm64", arch: "arm64"},
		{name: "bullseye-amd64", arch: "amd64"},
		{name: "bookworm-amd64", arch: "amd64"},
		{name: "sid-amd64", arch: "amd64"},
	} {
		m.kernel = m.name + "/vmlinuz-*"
		all = append(all, m.withAppArmor(), m.withSELinux())
	}
	return all
}

// kernelTests is a regexp for the tests in which the kernel's side may be
// another one. -kernel-tests runs these and directTests.
const kernelTests = "Explain|Hook|MemoryProtection|MemoryToWrite|HugePages|Cgroup|Namespace|Caps|Ids|" +
	"Umask|Groups|Rlimit|Limit|Signal|Landlock|Filter|Label|Profile|Personality|PassFD|Policies|PidFile|Keyring|Terminal|Privileged|Table"

// directTests is a regexp for more such tests: those that helpers would
// take too long for, or that have nothing to do with helpers. Tests that
// try something many times are left out, an emulated processor takes minutes
// for them.
const directTests = "Clone|Pidfd|VFork|Retry|InPlaceOfAChild|Chroot|OOM|Securebits|Capabilit|NoNewPrivs|Dumpable|" +
	"Stub|SharesTheMemory|TheExecutableOf|WritableAndExecutable|TheChilds|OfThisProcess|AttackOn|AttackBy|" +
	"Scheduler|Affinity|Priorit|NUMA|AtTheGate|AtItsGate|StandsAlone|StoppedTree|TreeIs"

// secret is where the policies do not let a confined program read.
var secret = []string{
	"mkdir /secret",
	"mount -t ramfs -o mode=755 none /secret",
	"echo secret >/secret/text",
}

func (m machine) withAppArmor() machine {
	m.name, m.variant = m.name+"-apparmor", "apparmor"
	m.params = []string{"security=apparmor", "apparmor=1"}
	m.files = map[string]string{"/etc/apparmor.policy": "apparmor.policy"}
	// In one write, as the kernel wants it.
	m.setup = append([]string{"dd bs=1M if=/etc/apparmor.policy of=/sys/kernel/security/apparmor/.load"}, secret...)
	return m
}

func (m machine) withSELinux() machine {
	m.name, m.variant = m.name+"-selinux", "selinux"
	m.params = []string{"security=selinux", "selinux=1"}
	m.files = map[string]string{"/etc/selinux.policy": "selinux.policy"}
	m.setup = append([]string{
		"dd bs=1M if=/etc/selinux.policy of=/sys/fs/selinux/load",
		"echo 1 >/sys/fs/selinux/enforce",
	}, secret...)
	return m
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

// find returns the machines that patterns mean, with their kernels. Patterns
// are separated by spaces. Each must match a machine: a mistyped one would
// otherwise leave out a kernel in silence.
func find(all []machine, cache, patterns string) ([]bootable, error) {
	unused := map[string]bool{}
	for _, pattern := range strings.Fields(patterns) {
		unused[pattern] = true
	}
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
		wanted := false
		for _, pattern := range strings.Fields(patterns) {
			ok, err := b.matches(pattern)
			if err != nil {
				return nil, fmt.Errorf("-kernels %s: %w", pattern, err)
			}
			if ok {
				wanted = true
				delete(unused, pattern)
			}
		}
		if wanted {
			found = append(found, b)
		}
	}
	if len(found) == 0 || len(unused) > 0 {
		unmatched := strings.Join(slices.Sorted(maps.Keys(unused)), " ")
		return nil, fmt.Errorf("no kernel in %s matches %q: run .ci/vm to fetch kernels", cache, unmatched)
	}
	return found, nil
}
