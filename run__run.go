package spawn

// runCall is a running call of a command.
type runCall struct {
	command *wanted
	streams streams
	options options // the executor is chosen unless it is given
	method  string  // of the face, for an error
	watcher watcher // nil: nobody is told
}

// runOptions say how the runs of a command are to be planned: the zero value is
// good for all that nobody has looked at before.
type runOptions = options
