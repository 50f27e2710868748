package command

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

// Namespaces are those that the child gets new, and those that it joins.
type Namespaces struct {
	Fresh            uint32 // CLONE_NEW… flags
	Joined           []JoinedNamespace
	UIDMaps, GIDMaps []IDMap
}

// JoinedNamespace is a namespace that the child joins, by a file that refers
// to it.
type JoinedNamespace struct {
	Kind uint32 // a CLONE_NEW… flag
	File *os.File
}

func (n Namespaces) clone() Namespaces {
	n.Joined = slices.Clone(n.Joined)
	n.UIDMaps = slices.Clone(n.UIDMaps)
	n.GIDMaps = slices.Clone(n.GIDMaps)
	return n
}

// IDMap maps ids of a user namespace to ids outside it.
type IDMap struct {
	ContainerID int
	HostID      int
	Size        int
}

// Joins reports whether the child joins a namespace of one of these kinds.
func (n *Namespaces) Joins(kind uint32) bool {
	return slices.ContainsFunc(n.Joined, func(j JoinedNamespace) bool { return j.Kind&kind != 0 })
}

// InUser reports whether the program runs in another user namespace than
// the parent.
func (n *Namespaces) InUser() bool { return n.Fresh&newUser != 0 || n.Joins(newUser) }

// IsMapped reports whether ids of a new user namespace are to be written.
func (n *Namespaces) IsMapped() bool { return len(n.UIDMaps)+len(n.GIDMaps) > 0 }

// MapText is what the kernel reads.
func MapText(maps []IDMap) string {
	var b []byte
	for _, m := range maps {
		b = fmt.Appendf(b, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return string(b)
}
