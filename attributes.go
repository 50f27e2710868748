package spawn

// attributes are those of a process that are about its resources, its origin and its end.
type attributes struct{}

func (a attributes) clone() attributes { return a }
