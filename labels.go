package spawn

import "strings"

// labels are what the security modules of the kernel are to make of the program. Empty ones leave it to them.
type labels struct {
	selinux, apparmor, smack string
	optional                 bool
}

// SetSELinuxLabel makes the program run in this SELinux context, system_u:system_r:svirt_t:s0:c1,c2 for example. The default is what the
// policy says. A context that the policy does not know is an error before anything starts, EINVAL; one that may not be entered, or not by
// this program, is an EACCES of execve. Where the kernel does not run SELinux that is an error too, but see
// [Command.SetMACOptional]. (virCommandSetSELinuxLabel, setexeccon(3), systemd's SELinuxContext=)
func (c *Command) SetSELinuxLabel(label string) *Command {
	c.checkLabel("SetSELinuxLabel", label)
	c.mac.selinux = label
	return c
}

// SetAppArmorProfile makes the program run under this AppArmor profile, which must have been loaded. The default is what the
// profiles say. A profile that is not there is an error, before anything starts where this process may read the list of profiles. One that
// this process may not change to is an EACCES of the start. Where the kernel does not run AppArmor that is an error too, but see
// [Command.SetMACOptional]. (virCommandSetAppArmorProfile, aa_change_onexec(2), systemd's AppArmorProfile=)
func (c *Command) SetAppArmorProfile(profile string) *Command {
	c.checkLabel("SetAppArmorProfile", profile)
	c.mac.apparmor = profile
	return c
}

// maxSmackLabel is the longest label, in bytes.
const maxSmackLabel = 255

// SetSmackLabel makes the program run with this Smack label. The default is this process's. To change it needs CAP_MAC_ADMIN. The child
// has the label from then on, so it executes the program with it. Where the kernel does not run Smack that is an
// error, but see [Command.SetMACOptional]. (smack_set_label_for_self(3), systemd's SmackProcessLabel=)
func (c *Command) SetSmackLabel(label string) *Command {
	c.checkLabel("SetSmackLabel", label)
	if len(label) > maxSmackLabel || strings.ContainsAny(label, "/\"'\\ ") || strings.HasPrefix(label, "-") {
		c.fail("SetSmackLabel", "%q is not a label", label)
	}
	c.mac.smack = label
	return c
}

// SetMACOptional takes [Command.SetSELinuxLabel], [Command.SetAppArmorProfile] and [Command.SetSmackLabel] as not called on a kernel that
// does not run the module in question, for daemons that come with a label for each. Every other failure stays one.
func (c *Command) SetMACOptional() *Command {
	c.mac.optional = true
	return c
}

// maxLabel is what fits into one write: the kernel takes no more than a page.
const maxLabel = 4000

func (c *Command) checkLabel(method, label string) {
	switch {
	case label == "":
		c.fail(method, "the label is empty")
	case strings.ContainsAny(label, "\x00\n"):
		c.fail(method, "the label %q has a NUL byte or a line feed", label)
	case len(label) > maxLabel:
		c.fail(method, "a label of %d bytes is longer than %d", len(label), maxLabel)
	}
}
