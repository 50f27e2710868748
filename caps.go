package spawn

// capabilities are what SetBoundingCaps and its like have asked for.
type capabilities struct{}

func (c capabilities) clone() capabilities { return c }
