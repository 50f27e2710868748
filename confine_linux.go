package spawn

func (pl *plan) checkConfinement() error { return nil }

func (pl *plan) noNewPrivs() {}

func (pl *plan) landlock() {}

func (pl *plan) seccomp() {}
