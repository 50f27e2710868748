package spawn

// namespaces are those that the child gets new, and those that it joins.
type namespaces struct{}

func (n namespaces) clone() namespaces { return n }
