package spawn

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/virspawn/spawn/internal/command"
	"github.com/virspawn/spawn/internal/secure"
)

// addEnv checks a variable and adds it.
func (c *Command) addEnv(method, name string, value command.Text) {
	c.addVariable(method, command.Variable{Name: name, Value: value})
}

func (c *Command) addVariable(method string, v command.Variable) {
	c.want.Env.Set = true
	name, value := v.Name, v.Value
	switch {
	case name == "":
		c.fail(method, "the variable's name is empty")
	case strings.Contains(name, "="):
		c.fail(method, "the variable's name %q has an equals sign", name)
	case value.Secret && strings.IndexByte(value.Str, 0) >= 0:
		// Without the value, which is a secret.
		c.fail(method, "the value of %s has a NUL byte", name)
	case c.checkText(method, "variable's name", name) && c.checkText(method, "value of "+name, value.Str):
		c.want.Env.Put(v)
	}
}

// addEnvString checks a string of the form name=value and adds it.
func (c *Command) addEnvString(method, pair string) {
	name, value, ok := strings.Cut(pair, "=")
	if !ok {
		c.fail(method, "%q has no equals sign", pair)
		return
	}
	c.addEnv(method, name, command.Text{Str: value})
}

// AddEnv sets a variable in the program's environment.
//
// The program inherits all of the parent's variables until the first call of a
// method about the environment. From that call on, whether it adds something or
// not, the program gets only the variables that were added. To have all of the
// parent's and more, call [Command.AddEnvPassAll] first.
//
// A name that is added again keeps its place and takes the last value.
//
// Like virCommandAddEnvPair.
func (c *Command) AddEnv(name, value string) *Command {
	c.addEnv("AddEnv", name, command.Text{Str: value})
	return c
}

// AddEnvf sets a variable from a string of the form name=value, formatted as by
// [fmt.Sprintf].
//
// Like virCommandAddEnvFormat.
func (c *Command) AddEnvf(format string, a ...any) *Command {
	c.addEnvString("AddEnvf", fmt.Sprintf(format, a...))
	return c
}

// AddEnvString sets a variable from a string of the form name=value.
//
// Like virCommandAddEnvString.
func (c *Command) AddEnvString(pair string) *Command {
	c.addEnvString("AddEnvString", pair)
	return c
}

// AddSecretEnv sets a variable whose value is a secret. [Command.String] and
// [Command.Explain] show it as ***; errors, logs and events show no variables.
//
// The program still sees it, and so does everyone who may read its
// /proc/PID/environ. Prefer [Command.SetSendBuffer].
func (c *Command) AddSecretEnv(name, value string) *Command {
	c.addEnv("AddSecretEnv", name, command.Text{Str: value, Secret: true})
	return c
}

// AddEnvPassAllowSUID passes on variables of the parent, with the values that
// they have now. Variables that are not set are left out.
//
// They are passed also when the parent runs setuid, setgid or with file
// capabilities. The caller vouches that an unprivileged user may choose
// their values.
//
// Like virCommandAddEnvPassAllowSUID.
func (c *Command) AddEnvPassAllowSUID(names ...string) *Command {
	for _, name := range names {
		c.passEnv("AddEnvPassAllowSUID", name)
	}
	c.want.Env.Set = true
	return c
}

// AddEnvPassBlockSUID passes on a variable of the parent, with the value that
// it has now.
//
// When the parent runs setuid, setgid or with file capabilities, the value is
// dropped: an unprivileged user may have chosen it.
//
// If there is no value to pass, because it was dropped or is not set, the
// program gets the fallback. Without a fallback the program does not get
// the variable.
//
// Like virCommandAddEnvPassBlockSUID.
func (c *Command) AddEnvPassBlockSUID(name string, fallback ...string) *Command {
	const method = "AddEnvPassBlockSUID"
	if len(fallback) > 1 {
		c.fail(method, "%d fallbacks for %q; there can be one", len(fallback), name)
	}
	c.want.Env.Set = true
	passed := !secure.Mode() && c.passEnv(method, name)
	if !passed && len(fallback) > 0 {
		c.addVariable(method, command.Variable{Name: name, Value: command.Text{Str: fallback[0]}, Passed: true})
	}
	return c
}

// passEnv passes on a variable with the value that it has now. It reports
// whether there is one.
func (c *Command) passEnv(method, name string) bool {
	value, ok := os.LookupEnv(name)
	if ok || name == "" || strings.ContainsAny(name, "=\x00") {
		// A bad name is added too, for its error.
		c.addVariable(method, command.Variable{Name: name, Value: command.Text{Str: value}, Passed: true})
	}
	return ok
}

// AddEnvPassCommon passes on those of the parent's variables that most
// programs need:
//
//	variable         when the parent runs setuid
//	LD_PRELOAD       dropped
//	LD_LIBRARY_PATH  dropped
//	PATH             /bin:/usr/bin, also when it is not set
//	HOME             dropped
//	USER             passed
//	LOGNAME          passed
//	TMPDIR           dropped
//
// Like virCommandAddEnvPassCommon, which also sets LC_ALL=C; call
// AddEnv("LC_ALL", "C") for that.
func (c *Command) AddEnvPassCommon() *Command {
	return c.AddEnvPassBlockSUID("LD_PRELOAD").
		AddEnvPassBlockSUID("LD_LIBRARY_PATH").
		AddEnvPassBlockSUID("PATH", secure.Path).
		AddEnvPassBlockSUID("HOME").
		AddEnvPassAllowSUID("USER", "LOGNAME").
		AddEnvPassBlockSUID("TMPDIR")
}

// AddEnvPassAll passes on all variables of the parent, with the values that
// they have now. That is what the program gets by default; after this call more
// can be added.
//
// As by default, they are passed also when the parent runs setuid, setgid or
// with file capabilities, although an unprivileged user may then have chosen
// them. Only those that a C library drops in such a program are not there,
// LD_PRELOAD for example: see secure-execution mode in ld.so(8). What has no
// equals sign is not a variable and is left out.
//
// Like [os/exec.Cmd.Environ].
func (c *Command) AddEnvPassAll() *Command {
	c.want.Env.Set = true
	for _, pair := range secure.Environ() {
		// On Windows a name may begin with an equals sign, the current
		// directory of drive C for example: no program is told of these.
		if name, value, ok := strings.Cut(pair, "="); ok && name != "" {
			c.addVariable("AddEnvPassAll", command.Variable{Name: name, Value: command.Text{Str: value}, Passed: true})
		}
	}
	return c
}

// AddEnvXDG points the XDG base directories below baseDir, which must be
// absolute. It sets XDG_DATA_HOME to baseDir/.local/share, XDG_CACHE_HOME to
// baseDir/.cache, and XDG_CONFIG_HOME to baseDir/.config.
//
// The directories are not created.
//
// Like virCommandAddEnvXDG.
func (c *Command) AddEnvXDG(baseDir string) *Command {
	const method = "AddEnvXDG"
	if !filepath.IsAbs(baseDir) {
		c.fail(method, "the directory %q is not absolute", baseDir)
	}
	c.addEnv(method, "XDG_DATA_HOME", command.Text{Str: filepath.Join(baseDir, ".local", "share")})
	c.addEnv(method, "XDG_CACHE_HOME", command.Text{Str: filepath.Join(baseDir, ".cache")})
	c.addEnv(method, "XDG_CONFIG_HOME", command.Text{Str: filepath.Join(baseDir, ".config")})
	return c
}

// ClearEnv forgets all variables that were added so far. The program gets only
// variables added after this call; if there are none, an empty environment.
func (c *Command) ClearEnv() *Command {
	c.want.Env = command.Environment{Set: true}
	return c
}
