package spawn

func (pl *plan) checkCapabilities() error { return nil }

// boundingSet comes before credentials change.
func (pl *plan) boundingSet() {}

// capabilities comes after credentials have changed.
func (pl *plan) capabilities() {}
