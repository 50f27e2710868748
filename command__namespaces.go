package spawn

import (
	"fmt"
	"os"
	"slices"
)

// Kinds of namespaces, with the kernel's numbers, about which a command is
// checked on every system. (clone(2))
const (
	newUser = 0x10000000
)

// namespaces are those that the child gets new, and those that it joins.
type namespaces struct {
	fresh            uint32 // CLONE_NEW… flags
	joined           []joinedNamespace
	uidMaps, gidMaps []idMap
}

type joinedNamespace struct {
	kind uint32
	file *os.File
}

func (n namespaces) clone() namespaces {
	n.joined = slices.Clone(n.joined)
	n.uidMaps = slices.Clone(n.uidMaps)
	n.gidMaps = slices.Clone(n.gidMaps)
	return n
}

// idMap maps ids of a user namespace to ids outside it.
type idMap struct {
	ContainerID int
	HostID      int
	Size        int
}

func (n *namespaces) joins(kind uint32) bool {
	return slices.ContainsFunc(n.joined, func(j joinedNamespace) bool { return j.kind&kind != 0 })
}

// isMapped reports whether ids of a new user namespace are to be written.
func (n *namespaces) isMapped() bool { return len(n.uidMaps)+len(n.gidMaps) > 0 }

// mapText is what the kernel reads.
func mapText(maps []idMap) string {
	var b []byte
	for _, m := range maps {
		b = fmt.Appendf(b, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return string(b)
}
