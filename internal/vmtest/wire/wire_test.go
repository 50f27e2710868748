package wire

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func sent(t *testing.T, events ...Event) *bytes.Buffer {
	t.Helper()
	var line bytes.Buffer
	w, err := NewWriter(&line)
	require.NoError(t, err)
	for _, e := range events {
		require.NoError(t, w.Send(e))
	}
	return &line
}

func TestEventsArriveAsTheyWereSent(t *testing.T) {
	want := []Event{
		{Kind: Start, Run: 2},
		{Kind: Output, Run: 2, Data: []byte("\x16--- PASS\r\n\xff\x00")},
		{Kind: End, Run: 2, Status: Passed, Elapsed: time.Second},
		{Kind: Done},
	}
	var got []Event
	require.NoError(t, Read(sent(t, want...), func(e Event) { got = append(got, e) }))
	assert.Equal(t, want, got)
}

func TestEventArrivesBeforeTheNextIsSent(t *testing.T) {
	r, w := io.Pipe()
	events := make(chan Event)
	go func() { _ = Read(r, func(e Event) { events <- e }) }()
	writer, err := NewWriter(w)
	require.NoError(t, err)
	for i := range 3 {
		require.NoError(t, writer.Send(Event{Kind: Start, Run: i}))
		assert.Equal(t, i, (<-events).Run)
	}
	require.NoError(t, w.Close())
}

func TestReadPassesOnWhatCameBeforeAnEarlyEnd(t *testing.T) {
	line := sent(t, Event{Kind: Start}, Event{Kind: Output, Data: []byte("whole")}, Event{Kind: Done})
	line.Truncate(line.Len() - 8)
	var got []Kind
	require.NoError(t, Read(line, func(e Event) { got = append(got, e.Kind) }))
	assert.Equal(t, []Kind{Start, Output}, got)
}

func TestReadFailsOnWhatIsNoEvent(t *testing.T) {
	err := Read(strings.NewReader("[    0.000000] Linux version 6.1"), func(Event) {})
	assert.Error(t, err)
}
