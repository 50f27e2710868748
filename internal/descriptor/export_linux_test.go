package descriptor

// LowLimit is above all low numbers.
const LowLimit = lowLimit

// CloseAll gives the block back.
func (l *Numbers) CloseAll() {
	for _, fd := range l.free {
		if l.holds(fd) {
			Close(fd)
		}
	}
	if l.free != nil && l.holds(l.base) {
		Close(l.base)
	}
}

// Free returns the numbers that can be lent, the next one first.
func (l *Numbers) Free() (free []int) {
	for i := len(l.free) - 1; i >= 0; i-- {
		free = append(free, l.free[i])
	}
	return free
}

// Base returns the number that is never lent.
func (l *Numbers) Base() int { return l.base }
