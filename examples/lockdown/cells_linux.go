package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLines is how many lines a cell has at most.
const maxLines = 6

func descriptorCell(s *seen) cell {
	if len(s.Descriptors) == 0 {
		return cell{verdict: good, lines: []string{"none"}}
	}
	c := cell{verdict: bad}
	secrets := slices.Clone(s.Descriptors)
	slices.SortStableFunc(secrets, func(a, b descriptor) int {
		// What matters first, lest it is cut off.
		return strings.Compare(fmt.Sprint(b.Secret), fmt.Sprint(a.Secret))
	})
	for i, d := range secrets {
		if i >= maxLines-1 && len(secrets) > maxLines {
			c.lines = append(c.lines, fmt.Sprintf("and %d more", len(secrets)-i))
			break
		}
		c.lines = append(c.lines, fmt.Sprintf("%d %s", d.Number, d.Target))
		if d.Secret {
			c.lines = append(c.lines, "(it can read the secret there)")
		}
	}
	return c
}

func environmentCell(s *seen) cell {
	names := slices.Sorted(slices.Values(s.Environment))
	if slices.Contains(names, secretName) {
		return cell{verdict: bad, lines: []string{fmt.Sprintf("%d names, %s among them", len(names), secretName)}}
	}
	return cell{verdict: good, lines: []string{fmt.Sprintf("%d names: %s", len(names), strings.Join(names, " "))}}
}

func umaskCell(s *seen) cell {
	mask := statusField(s.Status, "Umask")
	if strings.Trim(mask, "0") == "" {
		return cell{verdict: bad, lines: []string{mask}}
	}
	return cell{verdict: good, lines: []string{mask}}
}

func signalCell(s *seen) cell {
	mask, err := strconv.ParseUint(statusField(s.Status, "SigIgn"), 16, 64)
	if err != nil {
		return cell{lines: []string{"unknown"}}
	}
	var names []string
	for n := 1; n <= 64; n++ {
		if mask&(1<<(n-1)) == 0 {
			continue
		}
		name := unix.SignalName(syscall.Signal(n))
		if name == "" {
			name = strconv.Itoa(n)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return cell{verdict: good, lines: []string{"none"}}
	}
	return cell{verdict: bad, lines: []string{strings.Join(names, " ")}}
}

func limitCell(s *seen) cell {
	return cell{lines: []string{
		"open files " + limit(s.Limits, "Max open files"),
		"core size " + limit(s.Limits, "Max core file size"),
	}}
}

// limit returns the soft and the hard limit on the line that starts with name.
func limit(limits, name string) string {
	for line := range strings.Lines(limits) {
		rest, ok := strings.CutPrefix(line, name)
		fields := strings.Fields(rest)
		if !ok || len(fields) < 2 {
			continue
		}
		if fields[0] == fields[1] {
			return fields[0]
		}
		return fields[0] + ", up to " + fields[1]
	}
	return "unknown"
}

func groupCell(s *seen) cell {
	c := cell{lines: []string{"uid " + firstField(s.Status, "Uid") + ", gid " + firstField(s.Status, "Gid")}}
	if groups := statusField(s.Status, "Groups"); groups != "" {
		c.lines = append(c.lines, "groups "+groups)
	} else {
		c.lines = append(c.lines, "no groups besides")
	}
	return c
}

func (d *demonstration) dumpableCell(flag int) cell {
	switch {
	case !d.changeUser:
		return cell{lines: []string{"not shown"}}
	case flag == 1:
		return cell{verdict: good, lines: []string{"1, as before"}}
	}
	return cell{verdict: bad, lines: []string{fmt.Sprintf("%d, was 1", flag)}}
}

// statusField returns a field of /proc/self/status.
func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// firstField returns the first of several values: of four ids, the real one.
func firstField(status, name string) string {
	id, _, _ := strings.Cut(statusField(status, name), "\t")
	return id
}
