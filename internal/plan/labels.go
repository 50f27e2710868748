//go:build linux

package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/virspawn/spawn/internal/command"
	"golang.org/x/sys/unix"
)

// labelModule is a security module of the kernel that gives programs labels.
type labelModule struct {
	name, method string
	label        func(*command.Labels) string
	enabled      func() bool
	// check looks at a label as far as the parent can.
	check func(label string) error
	// file is where below /proc the child writes prefix and label.
	file, prefix string
}

var labelModules = [...]labelModule{
	{
		name: "SELinux", method: "SetSELinuxLabel",
		label:   func(l *command.Labels) string { return l.SELinux },
		enabled: selinuxEnabled,
		check:   checkSELinuxLabel,
		file:    "thread-self/attr/exec",
	},
	{
		name: "AppArmor", method: "SetAppArmorProfile",
		label:   func(l *command.Labels) string { return l.AppArmor },
		enabled: appArmorEnabled,
		check:   checkAppArmorProfile,
		file:    "thread-self/attr/apparmor/exec", prefix: "exec ",
	},
	{
		name: "Smack", method: "SetSmackLabel",
		label:   func(l *command.Labels) string { return l.Smack },
		enabled: smackEnabled,
		check:   func(string) error { return nil },
		file:    "thread-self/attr/smack/current",
	},
}

// checkLabels looks at the labels and adds the files to write them to.
func (pl *Plan) checkLabels() error {
	l := &pl.Command.Labels
	for i := range labelModules {
		m := &labelModules[i]
		label := m.label(l)
		switch {
		case label == "":
			continue
		case !m.enabled():
			if l.Optional {
				continue
			}
			return &command.CallError{Method: m.method, Err: fmt.Errorf("the kernel does not run %s, but %s: %w", m.name, runningModules(), errors.ErrUnsupported)}
		}
		if err := m.check(label); err != nil {
			return &command.CallError{Method: m.method, Err: err}
		}
		pl.ProcFiles = append(pl.ProcFiles, ProcFile{Path: m.file, text: m.prefix + label})
	}
	return nil
}

// labels tells the kernel what to make of the program.
func (pl *Plan) labels() {
	for i := range labelModules {
		pl.writeProc(labelModules[i].file)
	}
}

// runningModules names those that the kernel runs.
func runningModules() string {
	var names []string
	for i := range labelModules {
		if labelModules[i].enabled() {
			names = append(names, labelModules[i].name)
		}
	}
	if names == nil {
		return "none of SELinux, AppArmor and Smack"
	}
	return strings.Join(names, " and ")
}

// selinuxEnabled reports whether there is an SELinux with a policy, before
// which the kernel gives every process the same label. selinux.GetEnabled would
// keep a descriptor of /proc for good.
func selinuxEnabled() bool {
	var fs unix.Statfs_t
	if unix.Statfs("/sys/fs/selinux", &fs) != nil || uint32(fs.Type) != unix.SELINUX_MAGIC || fs.Flags&unix.ST_RDONLY != 0 {
		return false
	}
	label, err := os.ReadFile("/proc/thread-self/attr/current")
	return err == nil && string(bytes.TrimRight(label, "\x00\n")) != "kernel"
}

// checkSELinuxLabel asks the policy. Where the parent may not ask, the child
// will find out.
func checkSELinuxLabel(label string) error {
	if err := selinux.SecurityCheckContext(label); errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("the policy has no context %q: %w", label, unix.EINVAL)
	}
	return nil
}

func appArmorEnabled() bool {
	b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && bytes.HasPrefix(b, []byte("Y"))
}

// checkAppArmorProfile looks for the profile among those loaded, if the parent
// may see them. Stacks, and profiles of another namespace, are not looked for.
func checkAppArmorProfile(profile string) error {
	if !isProfileName(profile) {
		return fmt.Errorf("%q is not the name of a profile: %w", profile, unix.EINVAL)
	}
	if profile == "unconfined" || strings.HasPrefix(profile, ":") || strings.Contains(profile, "//&") {
		return nil
	}
	b, err := os.ReadFile("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) { // name (mode)
		if i := strings.LastIndex(line, " ("); i >= 0 && line[:i] == profile {
			return nil
		}
	}
	return fmt.Errorf("the profile %q is not loaded: %w", profile, fs.ErrNotExist)
}

// isProfileName refuses what the kernel would take for another name than it
// looks like. Spaces around it are cut off, and a namespace alone means that
// the program is not confined there.
func isProfileName(profile string) bool {
	if inNamespace, ok := strings.CutPrefix(profile, ":"); ok {
		namespace, name, _ := strings.Cut(inNamespace, ":")
		if namespace == "" || strings.Trim(name, "/") == "" {
			return false
		}
	}
	return strings.TrimSpace(profile) == profile
}

// smackEnabled goes by smackfs, which the kernel has only when it runs Smack.
func smackEnabled() bool {
	b, err := os.ReadFile("/proc/filesystems")
	return err == nil && bytes.Contains(b, []byte("\tsmackfs\n"))
}
