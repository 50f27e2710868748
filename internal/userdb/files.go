package userdb

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strings"
)

// files are the database where there is no C library to ask. (passwd(5),
// group(5))
type files struct{ passwd, group string }

// find reads the file. Package os/user would do the same, but for the user
// that this process is: without an entry, that is whom $USER names.
func (f files) find(name string) (*user.User, error) {
	entries, err := read(f.passwd, 7)
	if err != nil {
		return nil, err
	}
	// A number may be the name of a user.
	for _, field := range []int{0, 2} {
		if _, ok := ParseUID(name); field == 2 && !ok {
			break
		}
		for _, e := range entries {
			if e[field] == name {
				return &user.User{Username: e[0], Uid: e[2], Gid: e[3]}, nil
			}
		}
	}
	return nil, unknown(name)
}

// groupsOf returns the groups that have the user among their members.
func (f files) groupsOf(u *user.User) (gids []string, err error) {
	entries, err := read(f.group, 4)
	for _, e := range entries {
		if slices.Contains(strings.Split(e[3], ","), u.Username) {
			gids = append(gids, e[2])
		}
	}
	return gids, err
}

// read returns the fields of a file's entries. There are none in a file that is
// not there. What is malformed is no entry, and neither is what includes NIS.
func read(path string, fields int) (entries [][]string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		e := strings.SplitN(strings.TrimSpace(line), ":", fields)
		if len(e) != fields || e[0] == "" || strings.ContainsAny(e[0][:1], "+-#") {
			continue
		}
		if _, ok := ParseUID(e[2]); ok {
			entries = append(entries, e)
		}
	}
	return entries, nil
}
