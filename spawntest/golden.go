package spawntest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/virspawn/spawn"
)

// A golden file is text: a first line, and then for each call, behind an empty
// line, these lines, of which all but the first and the last are left out where
// there is nothing to say. What is quoted is quoted as in Go.
//
//	run "ip" "link" ***           the program as given to spawn.New, and its
//	                              arguments; *** is a secret
//	argv0 "name"                  argument 0, if it is not the program
//	dir "/tmp"                    the working directory
//	env "LC_ALL" "C"              a variable that was set to a value, not
//	                              passed on; its value may be ***
//	send-buffer ***               data for a descriptor
//	stdin                         standard input; then its lines
//	| a line                      a line and its line feed, or,
//	"half a line"                 for one that has none, or characters that
//	                              cannot be printed, its bytes
//	stdout                        what the program wrote
//	stderr
//	runs                          it ran until it got a signal
//	exit 0                        how it ended; or one of these:
//	signal SIGKILL
//	failed "execve(...)" "no such file or directory" ENOENT
//
// The last one is an error of the start: the step, the error, and what that is
// for errors.Is. Parsing is strict: a file that would be written otherwise is
// an error.
const goldenHeader = "# Runs of programs, recorded by spawntest, format 1. To record again: go test -update"

// word is a text, or a secret.
type word struct {
	text   string
	secret bool
}

func (w word) String() string {
	if w.secret {
		return hiddenText
	}
	return strconv.Quote(w.text)
}

// recorded is one call.
type recorded struct {
	argv    []word // the program first
	argv0   string
	dir     string
	env     [][2]word // name, value
	buffers int
	stdin   string
	stdout  string
	stderr  string
	exit    int
	signal  syscall.Signal
	runs    bool
	failed  *recordedError
}

// recordedError is the error of a start.
type recordedError struct {
	op, text string
	is       []string // names of errors
}

func (e *recordedError) Error() string { return e.text }

func (e *recordedError) Unwrap() (errs []error) {
	for _, name := range e.is {
		for _, known := range knownErrors {
			if known.name == name {
				errs = append(errs, known.err)
			}
		}
	}
	return errs
}

// knownErrors are those that a golden file can name.
var knownErrors = []struct {
	name string
	err  error
}{
	{"exec.ErrNotFound", exec.ErrNotFound}, {"exec.ErrDot", exec.ErrDot}, {"errors.ErrUnsupported", errors.ErrUnsupported},
	{"E2BIG", syscall.E2BIG}, {"EACCES", syscall.EACCES}, {"EAGAIN", syscall.EAGAIN}, {"EBADF", syscall.EBADF}, {"EEXIST", syscall.EEXIST},
	{"EINVAL", syscall.EINVAL}, {"EIO", syscall.EIO}, {"EISDIR", syscall.EISDIR}, {"ELOOP", syscall.ELOOP}, {"EMFILE", syscall.EMFILE},
	{"ENAMETOOLONG", syscall.ENAMETOOLONG}, {"ENFILE", syscall.ENFILE}, {"ENOENT", syscall.ENOENT}, {"ENOEXEC", syscall.ENOEXEC},
	{"ENOMEM", syscall.ENOMEM}, {"ENOTDIR", syscall.ENOTDIR}, {"EPERM", syscall.EPERM}, {"ESRCH", syscall.ESRCH}, {"ETXTBSY", syscall.ETXTBSY},
	{"fs.ErrNotExist", fs.ErrNotExist}, {"fs.ErrPermission", fs.ErrPermission},
}

// newRecordedError takes what can be kept of an error.
func newRecordedError(err error) *recordedError {
	e := &recordedError{op: "start", text: err.Error()}
	var start *spawn.StartError
	if errors.As(err, &start) {
		e.op, e.text, err = start.Op, start.Err.Error(), start.Err
	}
	for _, known := range knownErrors {
		if errors.Is(err, known.err) {
			e.is = append(e.is, known.name)
		}
	}
	return e
}

// signalNames are the signals that every system has.
var signalNames = map[syscall.Signal]string{
	syscall.SIGHUP: "SIGHUP", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT", syscall.SIGILL: "SIGILL", syscall.SIGTRAP: "SIGTRAP",
	syscall.SIGABRT: "SIGABRT", syscall.SIGBUS: "SIGBUS", syscall.SIGFPE: "SIGFPE", syscall.SIGKILL: "SIGKILL", syscall.SIGSEGV: "SIGSEGV",
	syscall.SIGPIPE: "SIGPIPE", syscall.SIGALRM: "SIGALRM", syscall.SIGTERM: "SIGTERM",
}

// formatGolden returns the text of a golden file.
func formatGolden(calls []*recorded) []byte {
	var b bytes.Buffer
	b.WriteString(goldenHeader + "\n")
	for _, r := range calls {
		r.format(&b)
	}
	return b.Bytes()
}

func (r *recorded) format(b *bytes.Buffer) {
	b.WriteString("\nrun")
	for _, w := range r.argv {
		b.WriteString(" " + w.String())
	}
	b.WriteString("\n")
	if r.argv0 != "" {
		fmt.Fprintf(b, "argv0 %q\n", r.argv0)
	}
	if r.dir != "" {
		fmt.Fprintf(b, "dir %q\n", r.dir)
	}
	for _, v := range r.env {
		fmt.Fprintf(b, "env %s %s\n", v[0], v[1])
	}
	b.WriteString(strings.Repeat("send-buffer "+hiddenText+"\n", r.buffers))
	formatText(b, "stdin", r.stdin)
	formatText(b, "stdout", r.stdout)
	formatText(b, "stderr", r.stderr)
	if r.runs {
		b.WriteString("runs\n")
	}
	switch {
	case r.failed != nil:
		fmt.Fprintf(b, "failed %q %q", r.failed.op, r.failed.text)
		for _, name := range r.failed.is {
			b.WriteString(" " + name)
		}
		b.WriteString("\n")
	case r.signal != 0 && signalNames[r.signal] != "":
		fmt.Fprintf(b, "signal %s\n", signalNames[r.signal])
	case r.signal != 0:
		fmt.Fprintf(b, "signal %d\n", int(r.signal))
	default:
		fmt.Fprintf(b, "exit %d\n", r.exit)
	}
}

func formatText(b *bytes.Buffer, name, text string) {
	if text == "" {
		return
	}
	b.WriteString(name + "\n")
	for line := range strings.Lines(text) {
		if plain, ok := strings.CutSuffix(line, "\n"); ok && isPlain(plain) {
			b.WriteString("| " + plain + "\n")
		} else {
			b.WriteString(strconv.Quote(line) + "\n")
		}
	}
}

// isPlain reports whether a line can stand as it is: all is printable but for
// tabs, and no space at its end can get lost.
func isPlain(line string) bool {
	bad := func(r rune) bool { return r == utf8.RuneError || r != '\t' && !unicode.IsPrint(r) }
	return !strings.ContainsFunc(line, bad) && strings.TrimRight(line, " \t") == line
}

// goldenParser reads a golden file.
type goldenParser struct {
	lines []string
	n     int // of lines, read so far
}

// parseGolden is the reverse of formatGolden.
func parseGolden(text []byte) ([]*recorded, error) {
	// As version control may have made it.
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	p := &goldenParser{lines: strings.Split(string(text), "\n")}
	calls, err := p.parse()
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", p.n, err)
	}
	// So that nothing is taken for something else, or for nothing.
	want := strings.Split(string(formatGolden(calls)), "\n")
	for i := range max(len(want), len(p.lines)) {
		if i >= len(want) || i >= len(p.lines) || want[i] != p.lines[i] {
			return nil, fmt.Errorf("line %d: not as it would be written", i+1)
		}
	}
	return calls, nil
}

// next returns the next line; false at the end of the file.
func (p *goldenParser) next() (string, bool) {
	if p.n >= len(p.lines) {
		return "", false
	}
	p.n++
	return p.lines[p.n-1], true
}

func (p *goldenParser) parse() (calls []*recorded, err error) {
	if line, _ := p.next(); line != goldenHeader {
		return nil, errors.New("the first line is not that of a golden file of this version")
	}
	var r *recorded // that is open
	for {
		line, ok := p.next()
		if !ok {
			break
		}
		key, rest, _ := strings.Cut(line, " ")
		switch {
		case key == "" && r == nil:
			continue
		case key == "run" && r == nil:
			r = &recorded{}
			r.argv, err = parseWords(rest)
			if err == nil && (len(r.argv) == 0 || r.argv[0].secret) {
				err = errors.New("no program")
			}
		case r == nil:
			err = errors.New(`a call begins with "run"`)
		default:
			var end bool
			end, err = p.parseLine(r, key, rest)
			if end {
				calls, r = append(calls, r), nil
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if r != nil {
		return nil, errors.New("the last call has no end")
	}
	return calls, nil
}

// parseLine reads a line of a call, and those that belong to it. It reports
// whether that is the call's last.
func (p *goldenParser) parseLine(r *recorded, key, rest string) (end bool, err error) {
	switch key {
	case "argv0":
		r.argv0, err = parseText(rest)
	case "dir":
		r.dir, err = parseText(rest)
	case "env":
		var words []word
		words, err = parseWords(rest)
		if err == nil && (len(words) != 2 || words[0].secret) {
			err = errors.New("want a name and a value")
		}
		if err == nil {
			r.env = append(r.env, [2]word{words[0], words[1]})
		}
	case "send-buffer":
		r.buffers++
	case "stdin":
		r.stdin, err = p.parseLines()
	case "stdout":
		r.stdout, err = p.parseLines()
	case "stderr":
		r.stderr, err = p.parseLines()
	case "exit":
		r.exit, err = strconv.Atoi(rest)
		if r.exit < 0 || r.exit > 255 {
			err = errors.New("want an exit code, 0 to 255")
		}
		return true, err
	case "signal":
		r.signal, err = parseSignal(rest)
		return true, err
	case "runs":
		r.runs = true
	case "failed":
		r.failed, err = parseFailed(rest)
		return true, err
	default:
		err = fmt.Errorf("%q is unknown", key)
	}
	return false, err
}

// parseLines reads a text.
func (p *goldenParser) parseLines() (string, error) {
	var text strings.Builder
	for p.n < len(p.lines) {
		line := p.lines[p.n]
		if plain, ok := strings.CutPrefix(line, "| "); ok {
			text.WriteString(plain + "\n")
		} else if line == "|" { // an editor has taken the space
			return "", errors.New("a space is missing behind the bar")
		} else if strings.HasPrefix(line, `"`) {
			s, err := parseText(line)
			if err != nil {
				return "", err
			}
			text.WriteString(s)
		} else {
			break
		}
		p.n++
	}
	return text.String(), nil
}

// parseText reads one quoted text.
func parseText(s string) (string, error) {
	words, err := parseWords(s)
	if err == nil && (len(words) != 1 || words[0].secret) {
		err = errors.New("want one quoted text")
	}
	if err != nil {
		return "", err
	}
	return words[0].text, nil
}

// parseWords reads texts with a space between.
func parseWords(s string) (words []word, err error) {
	for s != "" {
		var w word
		w, s, err = cutWord(s)
		if err != nil {
			return nil, err
		}
		words = append(words, w)
	}
	return words, nil
}

// cutWord reads the first word and the space behind it.
func cutWord(s string) (w word, rest string, err error) {
	if after, ok := strings.CutPrefix(s, hiddenText); ok {
		return word{secret: true}, strings.TrimPrefix(after, " "), nil
	}
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return w, "", fmt.Errorf("want a quoted text or %s at %q", hiddenText, s)
	}
	w.text, err = strconv.Unquote(quoted)
	return w, strings.TrimPrefix(s[len(quoted):], " "), err
}

func parseSignal(s string) (syscall.Signal, error) {
	for sig, name := range signalNames {
		if name == s {
			return sig, nil
		}
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 64 {
		return 0, fmt.Errorf("%q is no signal", s)
	}
	return syscall.Signal(n), nil
}

func parseFailed(s string) (*recordedError, error) {
	op, rest, err := cutWord(s)
	if err != nil {
		return nil, err
	}
	text, rest, err := cutWord(rest)
	if err != nil {
		return nil, err
	}
	e := &recordedError{op: op.text, text: text.text, is: strings.Fields(rest)}
	if len(e.Unwrap()) != len(e.is) {
		return nil, fmt.Errorf("unknown error among %q", e.is)
	}
	return e, nil
}
