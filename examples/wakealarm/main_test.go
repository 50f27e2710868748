package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/virspawn/spawn"
	"github.com/virspawn/spawn/spawntest"
)

// setWakeAlarmExec is setWakeAlarm by package os/exec, for the README.
func setWakeAlarmExec(ctx context.Context, after time.Duration) error {
	cmd := exec.CommandContext(ctx, "rtcwake", "-m", "no", "-s", strconv.FormatInt(seconds(after), 10))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("rtcwake: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}

func TestTheAlarmIsSetInSeconds(t *testing.T) {
	for arg, want := range map[string]string{"90m": "5400", "1s": "1", "1ns": "1", "1.5s": "2", "2562047h47m16.8s": "9223372037"} {
		ctx, script := spawntest.New(t)
		script.Expect("rtcwake", "-m", "no", "-s", want)
		var stderr strings.Builder
		require.Zero(t, run(ctx, []string{arg}, &stderr))
		require.Empty(t, stderr.String())
	}
}

func TestBadArgumentsRunNothing(t *testing.T) {
	for arg, want := range map[string]string{
		"": "invalid duration", "10": "missing unit", "0s": "0s is not in the future", "-1h": "-1h0m0s is not in the future", "1h; reboot": "unknown unit",
	} {
		ctx, _ := spawntest.New(t) // which expects nothing
		var stderr strings.Builder
		require.Equal(t, 2, run(ctx, []string{arg}, &stderr))
		require.Contains(t, stderr.String(), want)
		require.Contains(t, stderr.String(), "usage: ")
	}
	ctx, _ := spawntest.New(t)
	require.Equal(t, 2, run(ctx, nil, &strings.Builder{}))
	require.Equal(t, 2, run(ctx, []string{"1h", "2h"}, &strings.Builder{}))
}

func TestWhatRtcwakeSaysIsShown(t *testing.T) {
	ctx, script := spawntest.New(t)
	script.Expect("rtcwake", spawntest.Rest).Stderr("rtcwake: /dev/rtc0: unable to find device: No such file or directory\n").Exit(1)
	var stderr strings.Builder
	require.Equal(t, 1, run(ctx, []string{"1h"}, &stderr))
	require.Equal(t, "wakealarm: spawn: rtcwake -m no -s 3600: exit status 1: "+
		"rtcwake: /dev/rtc0: unable to find device: No such file or directory\n", stderr.String())
}

func TestAMissingRtcwakeIsReported(t *testing.T) {
	ctx, script := spawntest.New(t)
	script.Expect("rtcwake", spawntest.Rest).StartError(exec.ErrNotFound)
	require.ErrorIs(t, setWakeAlarm(ctx, time.Hour), exec.ErrNotFound)
}

// The clock's alarm in the files of the kernel: seconds since 1970, or nothing.
const wakeAlarm = "/sys/class/rtc/rtc0/wakealarm"

func readAlarm(t *testing.T) int64 {
	text, err := os.ReadFile(wakeAlarm)
	require.NoError(t, err)
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

func TestTheRealRtcwakeTakesThis(t *testing.T) {
	version, err := exec.Command("rtcwake", "--version").Output()
	if err != nil || !bytes.Contains(version, []byte("util-linux")) {
		t.Skipf("no rtcwake of util-linux: %v", err)
	}
	_, err = os.Stat(wakeAlarm)
	ways := map[string]func(context.Context, time.Duration) error{"spawn": setWakeAlarm, "os/exec": setWakeAlarmExec}
	if err == nil && os.Geteuid() == 0 {
		if readAlarm(t) != 0 {
			t.Skip("this machine has an alarm already")
		}
		defer func() { require.NoError(t, os.WriteFile(wakeAlarm, []byte("0"), 0)) }()
		for name, set := range ways {
			before := time.Now()
			require.NoError(t, set(context.Background(), 24*time.Hour), name)
			// The hardware clock may be some seconds off.
			require.WithinDuration(t, before.Add(24*time.Hour), time.Unix(readAlarm(t), 0), time.Minute, name)
		}
		return
	}
	// Without a clock, or the right to set it, rtcwake takes the arguments and
	// then fails for that alone.
	for name, set := range ways {
		err := set(context.Background(), 24*time.Hour)
		require.Error(t, err, name)
		require.Regexp(t, `rtcwake: .*/dev/rtc0|rtcwake: .*[Pp]ermi`, err.Error(), name)
		var exit *spawn.ExitError
		require.True(t, name != "spawn" || errors.As(err, &exit) && exit.Status.ExitCode == 1)
	}
}
