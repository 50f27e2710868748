package spawn

func labelModuleOf(method string) (name string, enabled bool) {
	for i := range labelModules {
		if m := &labelModules[i]; m.method == method {
			return m.name, m.enabled()
		}
	}
	panic(method)
}

func withoutLabelCheck(module int) (restore func()) {
	check := labelModules[module].check
	labelModules[module].check = func(string) error { return nil }
	return func() { labelModules[module].check = check }
}

func pidFileAt(path string, fd int) *pidFile { return &pidFile{path: path, fd: fd} }

func (f *pidFile) removeIfOurs() { f.remove() }

func (pl *plan) firstChildEnd() int { return pl.childEnds[0] }

func (pl *plan) imageNumber() int { return int(pl.fds.keptFD(pl.helper.imageKept)) }

func (pl *plan) keptNumbers() (ns []int) {
	for i := range pl.fds.kept {
		ns = append(ns, int(pl.fds.keptFD(i)))
	}
	return ns
}
