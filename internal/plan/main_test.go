//go:build linux

package plan_test

import (
	"testing"

	"github.com/virspawn/spawn/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
