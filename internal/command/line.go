package command

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Text is an argument or the value of a variable.
type Text struct {
	Str    string
	Secret bool
}

// String returns the command as a line for a POSIX shell: the environment,
// if it was set, the program and the arguments, quoted where needed, secrets
// as ***.
func (c *Command) String() string {
	var b strings.Builder
	for _, v := range c.Variables() {
		b.WriteString(shellQuote(v.Name))
		b.WriteByte('=')
		b.WriteString(v.Value.quoted())
		b.WriteByte(' ')
	}
	return b.String() + c.Line().String()
}

// Line is what errors, logs and events show of a command. Later changes to the
// command do not reach it.
type Line struct {
	name string
	args []Text
}

// Line returns what may be shown of the command.
func (c *Command) Line() Line { return Line{c.Name, c.Args} }

// String returns the program and its arguments as a line for a POSIX shell,
// secrets as ***.
func (l Line) String() string {
	var b strings.Builder
	if name := shellQuote(l.name); slices.Contains(shellWords, name) {
		b.WriteString("'" + name + "'")
	} else {
		b.WriteString(name)
	}
	for _, a := range l.args {
		b.WriteByte(' ')
		b.WriteString(a.quoted())
	}
	return b.String()
}

// quoted returns the text for a shell, *** for a secret.
func (t Text) quoted() string {
	if t.Secret {
		return "***"
	}
	return shellQuote(t.Str)
}

// shellWords mean something else than a program where a command begins, unless
// they are quoted. (Bash's, and so POSIX's)
var shellWords = []string{
	"case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select", "then", "time", "until", "while",
}

// shellQuote quotes s, where needed, so that a POSIX shell takes it as one word
// with no special meaning. What cannot be shown is escaped by $'…', which bash,
// zsh and ksh have long had, and POSIX since 2024.
func shellQuote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:@_"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	if isPrintable(s) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	b := []byte("$'")
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\r':
			b = append(b, `\r`...)
		case isShown(r, n) && r != '\'' && r != '\\':
			b = append(b, s[:n]...)
		default:
			// All three digits, as one more may follow. A quote too: the
			// history expansion of bash would take \' for the end.
			for _, c := range []byte(s[:n]) {
				b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
			}
		}
		s = s[n:]
	}
	return string(append(b, '\''))
}
