package descriptor

// LowLimit is above all low numbers.
const LowLimit = lowLimit

// CloseAll gives the block back.
func (l *Numbers) CloseAll() {
	for _, fd := range l.free {
		Close(fd)
	}
	if l.free != nil {
		Close(l.base)
	}
}
