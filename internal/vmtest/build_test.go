package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseListKeepsPackagesWithTests(t *testing.T) {
	binaries, err := parseList(strings.NewReader(`
{"ImportPath": "example.com/m", "Dir": "/m", "Module": {"Path": "example.com/m"}, "XTestGoFiles": ["m_test.go"]}
{"ImportPath": "example.com/m/none", "Dir": "/m/none", "Module": {"Path": "example.com/m"}}
{"ImportPath": "example.com/m/a/b", "Dir": "/m/a/b", "Module": {"Path": "example.com/m"}, "TestGoFiles": ["b_test.go"]}
{"ImportPath": "example.com/m/internal/vmtest/wire", "Module": {"Path": "example.com/m"}, "TestGoFiles": ["w_test.go"]}
`))
	require.NoError(t, err)
	assert.Equal(t, []testBinary{{pkg: ".", dir: "/m"}, {pkg: "./a/b", dir: "/m/a/b"}}, binaries)
}
