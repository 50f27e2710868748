package command

// The standard streams, by descriptor.
const (
	Stdin = iota
	Stdout
	Stderr
)

// StreamNames are the names of the standard streams, by descriptor.
var StreamNames = [...]string{"stdin", "stdout", "stderr"}

// Streams are those of a child.
type Streams [3]Stream

// Stream says what a standard stream of the child is connected to.
type Stream struct {
	Kind  StreamKind
	Value any // *os.File, []byte, *string, io.Reader or io.Writer, by kind
}

// StreamKind is a kind of thing that a stream is connected to.
type StreamKind uint8

const (
	StreamDefault StreamKind = iota // /dev/null, but see KeepTail
	StreamNull                      // /dev/null, as asked for
	StreamInherit                   // the parent's own
	StreamFile                      // *os.File, handed over as it is
	StreamData                      // []byte to be read by the child
	StreamReader                    // io.Reader, copied to the child
	StreamWriter                    // io.Writer, copied from the child
	StreamString                    // *string, set at the end
	StreamBytes                     // *[]byte, set at the end; for Output
	StreamPipe                      // an end on the Process
	StreamMerge                     // stderr only: the same as stdout
	// Stderr only: the end is kept for the error.
	StreamTail
	StreamTTY // the terminal of SetPTY
)

// Empty empties the strings that the streams are captured in.
func (s *Streams) Empty() {
	for _, s := range s {
		if v, ok := s.Value.(*string); ok {
			*v = ""
		}
	}
}

// KeepTail keeps the end of standard error for the error, unless the command
// directs it elsewhere.
func (s *Streams) KeepTail() {
	if s[Stderr].Kind == StreamDefault {
		s[Stderr].Kind = StreamTail
	}
}

// OnTerminal directs the streams about which nothing is said to the terminal,
// if there is one.
func (c *Command) OnTerminal(streams Streams) Streams {
	if c.Attributes.PTY != nil {
		for n := range streams {
			if streams[n].Kind == StreamDefault {
				streams[n].Kind = StreamTTY
			}
		}
	}
	return streams
}

// SameTarget reports whether both outputs go to the same writer or variable.
func SameTarget(a, b Stream) (same bool) {
	if a.Kind != b.Kind || (a.Kind != StreamWriter && a.Kind != StreamString && a.Kind != StreamBytes) {
		return false
	}
	// Writers of a type that cannot be compared are different ones.
	defer func() { _ = recover() }()
	return a.Value == b.Value
}
