// Package userdb looks users up in the system's user database, and nowhere
// else: not in $USER, as package os/user does without cgo for a process whose
// uid has no entry.
package userdb

import (
	"fmt"
	"os/user"
	"slices"
	"strconv"
)

// User is an entry of the database.
type User struct {
	UID, GID int
	Groups   []int // of which it is a member, GID among them; sorted
}

// source is where users are.
type source interface {
	// find returns a user by the name, or else by the uid.
	find(name string) (*user.User, error)
	groupsOf(*user.User) ([]string, error)
}

// Lookup returns the user of this name, or else the one with this uid.
//
// Where there is neither, the error is a user.UnknownUserError.
func Lookup(name string) (User, error) { return lookup(database, name) }

func lookup(database source, name string) (User, error) {
	u, err := database.find(name)
	if err != nil {
		return User{}, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return User{}, fmt.Errorf("the uid of %s: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return User{}, fmt.Errorf("the gid of %s: %w", name, err)
	}
	names, err := database.groupsOf(u)
	if err != nil {
		return User{}, err
	}
	groups := []int{gid}
	for _, s := range names {
		gid, err := strconv.Atoi(s)
		if err != nil {
			return User{}, fmt.Errorf("a group of %s: %w", name, err)
		}
		groups = append(groups, gid)
	}
	slices.Sort(groups)
	return User{UID: uid, GID: gid, Groups: slices.Compact(groups)}, nil
}

// ParseUID returns the uid that a name is as a number, as the system writes
// it: without a sign or zeros before it.
func ParseUID(name string) (uid int, ok bool) {
	uid, err := strconv.Atoi(name)
	return uid, err == nil && uid >= 0 && strconv.Itoa(uid) == name
}

// unknown is the error for a user that is not there.
func unknown(name string) error { return user.UnknownUserError(name) }
