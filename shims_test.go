package spawn

// wantedOf returns what a command wants.
func wantedOf(c *Command) *wanted { return &c.wanted }

// by returns a copy of the command that an executor runs.
func by(c *Command, e executor) *Command {
	d := *c
	d.options.executor = e
	return &d
}

// asPublic gives an error of the rooms below the type that users know.
func asPublic(err error) error { return public(err) }

// runOf returns what the library knows of a process.
func runOf(p *Process) *running { return p.run }

// firstFailOf returns the first bad call of a command.
func firstFailOf(c *Command) error { return c.firstFail }
