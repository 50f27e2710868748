package spawn

// confinement is what the program is not to do, whatever its credentials are.
type confinement struct {
	noNewPrivs bool
	filter     []bpfInstruction
}

// bpfInstruction is a unix.SockFilter, which other systems do not have.
type bpfInstruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

func (c confinement) clone() confinement { return c }
