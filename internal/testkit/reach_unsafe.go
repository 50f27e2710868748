package testkit

import (
	"reflect"
	"unsafe"

	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/plan"
	"github.com/virspawn/spawn/internal/process"
)

// field returns a pointer to a field that has no capital letter.
//
// Preconditions: v points to a struct, whose field with this name is a T.
func field[T any](v any, name string) *T {
	f := reflect.ValueOf(v).Elem().FieldByName(name)
	if f.Type() != reflect.TypeFor[T]() {
		panic("testkit: the field " + name + " is a " + f.Type().String())
	}
	return (*T)(unsafe.Pointer(f.UnsafeAddr()))
}

// Wanted returns what a command wants.
func Wanted(c *spawn.Command) *command.Command { return field[command.Command](c, "want") }

// By returns a copy of the command that an executor runs.
func By(c *spawn.Command, e plan.Executor) *spawn.Command {
	d := *c
	field[plan.Options](&d, "options").Executor = e
	return &d
}

// WithoutStub returns a copy of the command for which no stub can be executed.
func WithoutStub(c *spawn.Command) *spawn.Command {
	d := *c
	field[plan.Options](&d, "options").NoStub = true
	return &d
}

// FirstFail returns the first bad call of a command.
func FirstFail(c *spawn.Command) error { return *field[error](c, "firstFail") }

// Running returns what the library knows of a process.
func Running(p *spawn.Process) *process.Process { return *field[*process.Process](p, "run") }

// Public gives an error of the rooms below the type that users know.
func Public(err error) error {
	switch e := err.(type) {
	case *plan.NoStubError:
		return Public(e.Err)
	case *command.StartError:
		return (*spawn.StartError)(e)
	case *command.CallError:
		return (*spawn.CallError)(e)
	}
	return err
}
