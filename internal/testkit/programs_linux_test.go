package testkit

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
)

func TestTinyProgramsRun(t *testing.T) {
	require.NoError(t, spawn.New(TinyProgram(t)).Run(context.Background()))
	out, err := spawn.New(HelloProgram(t)).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "hello\n", string(out))
}
