package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/spawntest"
)

const initiator = "iqn.2005-06.com.example:madmax"

// argv0 is the name by which this test binary is the program under test.
const argv0 = "iscsiiface"

func TestMain(m *testing.M) {
	if os.Args[0] == argv0 {
		main()
	}
	os.Exit(m.Run())
}

// findInterfaceExec is findInterface by package os/exec, for the README.
func findInterfaceExec(ctx context.Context, initiator string) (string, error) {
	cmd := exec.CommandContext(ctx, "iscsiadm", "--mode", "iface")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	found := ""
	lines := bufio.NewScanner(stdout)
	for err == nil && lines.Scan() {
		var name, of string
		name, of, err = parseInterface(lines.Text())
		if of == initiator && found == "" {
			found = name
		}
	}
	if err == nil {
		err = lines.Err()
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("iscsiadm: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return found, nil
}

// result is what a run of this program comes to.
type result struct {
	code           int
	stdout, stderr string
}

func runTest(ctx context.Context, args ...string) result {
	var stdout, stderr strings.Builder
	code := run(ctx, args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

const listing = `default tcp,<empty>,<empty>,<empty>,<empty>
iser iser,<empty>,<empty>,<empty>,<empty>
iface0 qla4xxx,00:c0:dd:08:63:e8,20.15.0.7,default,iqn.2005-06.com.example:other
iface1 qla4xxx,00:c0:dd:08:63:ea,fe80::1,default,iqn.2005-06.com.example:madmax
iface2 tcp,<empty>,<empty>,<empty>,iqn.2005-06.com.example:madmax
iface3 tcp,<empty>,<empty>,<empty>,iqn.2005-06.com.example:last`

func TestTheFirstInterfaceOfTheInitiatorIsPrinted(t *testing.T) {
	for name, want := range map[string]result{
		initiator:                         {0, "iface1\n", ""},
		"iqn.2005-06.com.example:last":    {0, "iface3\n", ""},
		"iqn.2005-06.com.example:mad":     {1, "", "iscsiiface: no interface has this initiator's name\n"},
		"iqn.2005-06.com.example:madmaxx": {1, "", "iscsiiface: no interface has this initiator's name\n"},
	} {
		ctx, script := spawntest.New(t)
		script.Expect("iscsiadm", "--mode", "iface").Stdout(listing)
		require.Equal(t, want, runTest(ctx, name))
	}
}

func TestNoOutputIsNoInterface(t *testing.T) {
	ctx, script := spawntest.New(t)
	script.Expect("iscsiadm", "--mode", "iface")
	require.Equal(t, 1, runTest(ctx, initiator).code)
}

func TestBadArgumentsRunNothing(t *testing.T) {
	ctx, _ := spawntest.New(t) // which expects nothing
	for _, args := range [][]string{nil, {""}, {"<empty>"}, {"iqn."}, {"madmax"}, {initiator, initiator}} {
		r := runTest(ctx, args...)
		require.Equal(t, 2, r.code, "%q", args)
		require.Contains(t, r.stderr, "usage: ")
	}
}

func TestAFailureOfIscsiadmIsNotTakenForNoInterface(t *testing.T) {
	ctx, script := spawntest.New(t)
	script.Expect("iscsiadm", spawntest.Rest).Stdout(listing).Stderr("iscsiadm: Could not lock discovery DB\n").Exit(6)
	r := runTest(ctx, initiator)
	require.Equal(t, 2, r.code)
	require.Empty(t, r.stdout)
	require.Contains(t, r.stderr, "iscsiadm --mode iface: exit status 6: iscsiadm: Could not lock discovery DB\n")
}

func TestAnUnknownFormatEndsIscsiadm(t *testing.T) {
	for _, line := range []string{"iface0", "iface0 tcp,a,b,c", " tcp,a,b,c,d", ""} {
		ctx, script := spawntest.New(t)
		ended := make(chan error, 1)
		script.Expect("iscsiadm", spawntest.Rest).Do(func(call *spawn.DryRunCall) {
			call.Stdout = line + "\n"
			call.Flush()
			<-call.Context().Done() // it would go on
			ended <- call.Context().Err()
		})
		_, err := findInterface(ctx, initiator)
		require.ErrorIs(t, err, errFormat)
		require.ErrorContains(t, err, fmt.Sprintf("%q", line))
		require.Error(t, <-ended)
	}
}

// needIscsiadm skips the test where there is none.
func needIscsiadm(t *testing.T) {
	if _, err := exec.LookPath("iscsiadm"); err != nil {
		t.Skip("no iscsiadm of open-iscsi: ", err)
	}
}

func TestTheOutputOfTheRealIscsiadmIsUnderstood(t *testing.T) {
	needIscsiadm(t)
	for name, find := range map[string]func(context.Context, string) (string, error){"spawn": findInterface, "os/exec": findInterfaceExec} {
		found, err := find(context.Background(), "iqn.2005-06.com.example:no-such-initiator")
		require.Empty(t, found, name)
		if os.Geteuid() == 0 {
			require.NoError(t, err, name)
			// Of the interface that is always there.
			found, err = find(context.Background(), "<empty>")
			require.NoError(t, err, name)
			require.Equal(t, "default", found, name)
		} else { // it is for root
			require.ErrorContains(t, err, "exit status", name)
			require.ErrorContains(t, err, "lock", name)
		}
	}
}

func TestAnInterfaceOfTheRealIscsiadmIsFound(t *testing.T) {
	needIscsiadm(t)
	self, err := os.Executable()
	require.NoError(t, err)
	const script = `mount -t tmpfs none /etc/iscsi/ifaces || exit 77
printf '%s\n' 'iface.iscsi_ifacename = test' 'iface.transport_name = tcp' "iface.initiatorname = $1" >/etc/iscsi/ifaces/test
exec -a "$2" "$0" "$1"`
	out, err := spawn.New("bash", "-c", script, self, initiator, argv0).SetNamespaces(spawn.MountNamespace).Output(context.Background())
	var start *spawn.StartError
	var exit *spawn.ExitError
	if errors.As(err, &start) || errors.As(err, &exit) && exit.Status.ExitCode == 77 {
		t.Skip("needs root, and the right to mount, to add an interface that only this test sees: ", err)
	}
	require.NoError(t, err)
	require.Equal(t, "test\n", string(out))
}
