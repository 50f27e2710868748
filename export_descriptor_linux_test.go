package spawn

func (l *lowNumbers) closeAll() {
	for _, fd := range l.free {
		closeFD(fd)
	}
	if l.free != nil {
		closeFD(l.base)
	}
}
