//go:build linux

package plan

// What the tests of this package reach into.

var (
	Bitmap         = bitmap
	CheckNumbers   = checkNumbers
	CoreScheduling = coreScheduling
	OwnCaps        = ownCaps
	ReadList       = readList
	RunningModules = runningModules
)

// LabelModuleOf returns the security module of a method, and whether the kernel
// runs it.
func LabelModuleOf(method string) (name string, enabled bool) {
	for i := range labelModules {
		if m := &labelModules[i]; m.method == method {
			return m.name, m.enabled()
		}
	}
	panic("no module has the method " + method)
}

// WithoutLabelCheck leaves it to the child to find out about labels of
// a module, until restore is called.
func WithoutLabelCheck(module int) (restore func()) {
	check := labelModules[module].check
	labelModules[module].check = func(string) error { return nil }
	return func() { labelModules[module].check = check }
}

// PIDFileAt returns a pid file that a child has got as far as to name.
func PIDFileAt(path string, fd int) *PidFile { return &PidFile{path: path, parent: fd} }

// LockStale takes the right to replace a file, until release is called, and
// reports whether it needed the second file for that.
func LockStale(path string) (release func(), guarded bool, err error) {
	c, err := lockStale(path)
	return c.release, c.guard >= 0, err
}

// RemoveIfOurs removes the file.
func (f *PidFile) RemoveIfOurs() { f.remove() }

// FirstChildEnd returns the first descriptor that was opened for the child.
func (pl *Plan) FirstChildEnd() int { return pl.childEnds[0] }

// ImageNumber returns the number that the helper's image has in the child.
func (pl *Plan) ImageNumber() int { return int(pl.fds.keptFD(pl.Helper.imageKept)) }

// KeptNumbers returns the numbers in the child of what it keeps until execve.
func (pl *Plan) KeptNumbers() (ns []int) {
	for i := range pl.fds.kept {
		ns = append(ns, int(pl.fds.keptFD(i)))
	}
	return ns
}
