package plan

// Options say how one run of a command is to be planned.
type Options struct {
	Executor     Executor
	NoTreeCgroup bool // the kernel has refused the one for KillTree
	// NoStub: a stub cannot be executed here; a child that would need one gets
	// a copy of this process's memory.
	NoStub bool
	// The plan is only looked at: the program need not be there, and no file
	// is made.
	Look bool
	Path string // what there is to execute; empty: to be looked for
}

// Executor says who runs a program.
type Executor int

const (
	// Automatic: what the command needs.
	Automatic Executor = iota
	// Direct: a cloned child, which shares the parent's memory and does all
	// of it.
	Direct
	// Stub: a cloned child, which leaves that memory by way of a stub. That one
	// does the rest.
	Stub
	// ChildAndHelper: the same up to the namespaces, and then a helper.
	ChildAndHelper
	// ForkedHelper: a helper that package syscall starts, where no child can be
	// cloned otherwise. What is missing is the assembly or close_range (Linux
	// 5.9), or a seccomp policy refuses the clone.
	ForkedHelper
)

// NoStubError is the refusal to execute a stub.
type NoStubError struct{ Err error }

// Error says why.
func (e *NoStubError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *NoStubError) Unwrap() error { return e.Err }
