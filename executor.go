package spawn

// executor says who runs a program.
type executor int

const (
	// direct: a cloned child, all of it.
	direct executor = iota
	// childAndHelper: a cloned child up to the namespaces, and then a helper.
	childAndHelper
	// forkedHelper: a helper that package syscall starts, where no child can be cloned otherwise: for want of the assembly, of close_range
	// (Linux 5.9), or because a seccomp policy does not have it.
	forkedHelper
)
