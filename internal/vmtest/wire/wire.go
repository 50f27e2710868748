// Package wire is what the host tool and the guest of vmtest say to each other:
// a [Job] goes in with the guest's files, [Event]s come out over a serial line
// of their own, so neither the kernel's messages nor anything that a test
// prints can be taken for them.
package wire

import (
	"compress/flate"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"time"
)

// JobPath is where the guest finds its [Job], as JSON.
const JobPath = "/vmtest/job.json"

// Job is all that one guest does.
type Job struct {
	// Setup holds shell command lines, run as root before the first run. A
	// failing one ends the job.
	Setup []string `json:"setup,omitempty"`
	// Runs are done in order, each with a clean /tmp and no process left over.
	Runs []Run `json:"runs"`
}

// Run is one program to run.
type Run struct {
	Args   []string `json:"args"` // Args[0] is the program's path
	Env    []string `json:"env"`
	Dir    string   `json:"dir"`
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
	// The run is killed when it takes longer.
	Limit time.Duration `json:"limit"`
}

// Kind tells what an [Event] reports.
type Kind string

const (
	Start   Kind = "start"   // a run begins
	Output  Kind = "output"  // the run wrote Data
	End     Kind = "end"     // the run ended with Status after Elapsed
	Problem Kind = "problem" // the guest itself failed, with Data
	Done    Kind = "done"    // the last event: everything was run
)

// Event is one message of the guest.
type Event struct {
	Kind    Kind
	Run     int // index into Job.Runs
	Data    []byte
	Status  string // [Passed], or how the run ended
	Elapsed time.Duration
}

// Passed is the status of a run that exited with 0.
const Passed = "exit status 0"

// Writer sends events. They are compressed: an emulated serial line takes about
// ten microseconds for every byte, whatever its speed is set to.
type Writer struct {
	encoder    *gob.Encoder
	compressor *flate.Writer
}

// NewWriter returns a Writer that sends to w.
func NewWriter(w io.Writer) (*Writer, error) {
	compressor, err := flate.NewWriter(w, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	return &Writer{encoder: gob.NewEncoder(compressor), compressor: compressor}, nil
}

// Send sends one event; the reader gets it without waiting for the next.
func (w *Writer) Send(e Event) error {
	if err := w.encoder.Encode(e); err != nil {
		return err
	}
	return w.compressor.Flush()
}

// Read passes every event of r to f, until r ends. That an end came too early
// is no error: a missing [Done] tells.
func Read(r io.Reader, f func(Event)) error {
	decoder := gob.NewDecoder(flate.NewReader(r))
	for {
		var e Event
		err := decoder.Decode(&e)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("events of the guest: %w", err)
		}
		f(e)
	}
}
