package spawn

import (
	"errors"
	"fmt"
	"math/bits"
	"path/filepath"
	"strings"

	"github.com/syndtr/gocapability/capability"
)

// checkWhole refuses what does not go together, whatever the machine: the program is to run in a child or, with exec, in place of this process.
func (c *wanted) checkWhole(exec bool) error {
	n, a, caps := &c.namespaces, &c.attrs, &c.caps
	more := caps.ambient &^ caps.allowed
	switch {
	case n.isMapped() && n.fresh&newUser == 0:
		return &badCall{"SetUIDMap", errors.New("without SetNamespaces(UserNamespace) there is nothing to map")}
	case exec && (n.fresh != 0 || n.joined != nil):
		return &badCall{"Exec", errors.New("namespaces are for a child")}
	case a.pty != nil && a.tty != nil:
		return &badCall{"SetPTY", errors.New("by SetControllingTTY the session has another terminal")}
	case exec && a.cgroup != "":
		return &badCall{"Exec", errors.New("a cgroup is for a child")}
	case a.chroot != "" && !filepath.IsAbs(c.name):
		return &badCall{"SetChroot", fmt.Errorf("the program %q has no absolute path in the new root", c.name)}
	case c.daemon && a.deathSignal != 0:
		return &badCall{"SetParentDeathSignal", errors.New("a daemon outlives its parent")}
	case c.daemon && a.pty != nil:
		return &badCall{"SetPTY", errors.New("a daemon has no terminal")}
	case c.daemon && a.tty != nil:
		return &badCall{"SetControllingTTY", errors.New("a daemon has no terminal")}
	case caps.limited && more != 0:
		name := "CAP_" + strings.ToUpper(capability.Cap(bits.TrailingZeros64(more)).String())
		return &badCall{"SetAmbientCaps", fmt.Errorf("%s is not among those of AllowCap", name)}
	case c.daemon && !exec:
		return c.streams.checkAlone("Daemonize")
	}
	return nil
}

// checkStartOnly refuses in a call that returns no Process what needs one.
func (c *wanted) checkStartOnly(method string) error {
	switch {
	case c.handshake:
		return &badCall{method, errors.New("RequireHandshake needs a Process to shake hands with; use Start")}
	case c.daemon:
		return &badCall{method, errors.New("Daemonize is for a program that nobody waits for; use Start")}
	case c.attrs.pty != nil:
		return &badCall{method, errors.New("the terminal of SetPTY has its other end on a Process; use Start")}
	}
	return nil
}

// checkAlone refuses streams that need this process at the other end.
func (s *streams) checkAlone(method string) error {
	for n, s := range s {
		switch s.kind {
		case streamDefault, streamNull, streamInherit, streamFile, streamMerge, streamData:
		default:
			return &badCall{method, errors.New("nobody would be left at the other end of " + streamNames[n])}
		}
	}
	return nil
}
