package spawn_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the README and the guides have side by side is tested as a part of
// the examples.
func TestTheReadmeShowsTheCodeOfTheExamples(t *testing.T) {
	text := documentation(t)
	for _, where := range [][2]string{
		{"examples/wakealarm/main.go", "setWakeAlarm"}, {"examples/wakealarm/main_test.go", "setWakeAlarmExec"},
		{"examples/iscsiiface/main.go", "findInterface"}, {"examples/iscsiiface/main_test.go", "findInterfaceExec"},
	} {
		source, err := os.ReadFile(where[0])
		require.NoError(t, err)
		_, code, ok := strings.Cut(string(source), "\nfunc "+where[1]+"(")
		require.True(t, ok, "%s has no %s", where[0], where[1])
		code, _, _ = strings.Cut(code, "\n}\n")
		code = "\nfunc " + strings.TrimSuffix(where[1], "Exec") + "(" + code + "\n}\n"
		require.True(t, strings.Contains(text, code), "%s has other code than the documentation:\n%s", where[0], code)
	}
}
