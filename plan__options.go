package spawn

// options say how one run of a command is to be planned.
type options struct {
	executor     executor
	noTreeCgroup bool   // the kernel has refused the one for KillTree
	look         bool   // only to be looked at: the program need not be there, and no file is made
	path         string // what there is to execute; empty: to be looked for
}

// executor says who runs a program.
type executor int

const (
	// automatic: what the command needs.
	automatic executor = iota
	// direct: a cloned child, all of it.
	direct
	// childAndHelper: a cloned child up to the namespaces, and then a helper.
	childAndHelper
	// forkedHelper: a helper that package syscall starts, where no child can be
	// cloned otherwise: for want of the assembly, of close_range (Linux 5.9), or
	// because a seccomp policy does not have it.
	forkedHelper
)
