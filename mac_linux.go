package spawn

func (pl *plan) checkLabels() error { return nil }

func (pl *plan) labels() {}
