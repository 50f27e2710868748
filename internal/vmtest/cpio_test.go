package main

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readCpio takes an archive apart as the kernel does.
func readCpio(t *testing.T, archive []byte) []entry {
	t.Helper()
	take := func(n int) []byte {
		require.LessOrEqual(t, n, len(archive))
		data := archive[:n:n]
		archive = archive[n:]
		return data
	}
	var entries []entry
	for {
		header := take(110)
		require.Equal(t, "070701", string(header[:6]))
		field := func(i int) int {
			n, err := strconv.ParseUint(string(header[6+8*i:14+8*i]), 16, 32)
			require.NoError(t, err)
			return int(n)
		}
		nameLen := field(11)
		name := take(nameLen + -(110+nameLen)&3)[:nameLen-1]
		if string(name) == "TRAILER!!!" {
			require.Empty(t, archive)
			return entries
		}
		size := field(6)
		data := take(size + -size&3)[:size]
		entries = append(entries, entry{string(name), uint32(field(1)), field(2), field(3), data})
	}
}

func TestCpioKeepsEntriesOfAnyLength(t *testing.T) {
	var out bytes.Buffer
	w := cpioWriter{w: &out}
	var want []entry
	for n := range 9 {
		want = append(want, entry{
			name: "name"[:1+n%4], mode: typeFile | 0o640, uid: 1000, gid: 65534,
			data: []byte("contents")[:n:n],
		})
	}
	for _, e := range want {
		require.NoError(t, w.write(e))
	}
	require.NoError(t, w.close())
	assert.Equal(t, want, readCpio(t, out.Bytes()))
}
