package testkit_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/internal/testkit"
)

func TestTinyProgramsRun(t *testing.T) {
	require.NoError(t, spawn.New(testkit.TinyProgram(t)).Run(context.Background()))
	out, err := spawn.New(testkit.HelloProgram(t)).Output(context.Background())
	require.NoError(t, err)
	require.Equal(t, "hello\n", string(out))
}
