package spawn

// The standard streams, by descriptor.
const (
	stdin = iota
	stdout
	stderr
)

var streamNames = [...]string{"stdin", "stdout", "stderr"}

// streams are those of a child.
type streams [3]stream

// stream says what a standard stream of the child is connected to.
type stream struct {
	kind streamKind
	v    any // *os.File, []byte, *string, io.Reader or io.Writer, by kind
}

type streamKind uint8

const (
	streamDefault streamKind = iota // /dev/null, but see keepTail
	streamNull                      // /dev/null, as asked for
	streamInherit                   // this process's own
	streamFile                      // *os.File, handed over as it is
	streamData                      // []byte to be read by the child
	streamReader                    // io.Reader, copied to the child
	streamWriter                    // io.Writer, copied from the child
	streamString                    // *string, set at the end
	streamBytes                     // *[]byte, set at the end; for Output
	streamPipe                      // an end on the Process
	streamMerge                     // stderr only: the same as stdout
	streamTail                      // stderr only: the end is kept for the error
	streamTTY                       // the terminal of SetPTY
)

// empty empties the strings that the streams are captured in.
func (s *streams) empty() {
	for _, s := range s {
		if v, ok := s.v.(*string); ok {
			*v = ""
		}
	}
}

// keepTail keeps the end of standard error for the error, unless the command
// directs it elsewhere.
func (s *streams) keepTail() {
	if s[stderr].kind == streamDefault {
		s[stderr].kind = streamTail
	}
}

// onTerminal directs the streams about which nothing is said to the terminal, if there is one.
func (c *wanted) onTerminal(streams streams) streams {
	if c.attrs.pty != nil {
		for n := range streams {
			if streams[n].kind == streamDefault {
				streams[n].kind = streamTTY
			}
		}
	}
	return streams
}

// sameTarget reports whether both outputs go to the same writer or variable.
func sameTarget(a, b stream) (same bool) {
	if a.kind != b.kind || (a.kind != streamWriter && a.kind != streamString && a.kind != streamBytes) {
		return false
	}
	// Writers of a type that cannot be compared are different ones.
	defer func() { _ = recover() }()
	return a.v == b.v
}
