package child

// Options say what kind of process a child is. The zero value is the
// ordinary one.
type Options struct {
	// OwnMemory gives the child a copy of the memory, and of the table of
	// descriptors. It costs the more, the more memory the parent uses. The
	// program must have been made by program.NewShared and needs a status
	// descriptor: that one's end is the only sign that the child has left.
	// LeftMemory reports true at once.
	OwnMemory bool
	// Namespaces are CLONE_NEW… flags. CLONE_NEWTIME needs clone3.
	Namespaces uint64
	// Cgroup is a descriptor of a cgroup v2 directory, in which the child is
	// born; 0 is none. It needs clone3 and Linux 5.7. (CLONE_INTO_CGROUP)
	Cgroup int
}
