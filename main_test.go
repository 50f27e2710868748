package spawn

import "testing"

func TestMain(m *testing.M) { runMain(m) }
