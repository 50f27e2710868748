//go:build !unix || android || ((cgo || darwin) && !osusergo)

package userdb

import (
	"errors"
	"os/user"
)

// system is the C library, which knows all sources of users that the system
// has. (nsswitch.conf(5))
type system struct{}

var database system

func (system) find(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	var missing user.UnknownUserError
	if !errors.As(err, &missing) {
		return u, err
	}
	if _, ok := ParseUID(name); !ok {
		return nil, err
	}
	u, err = user.LookupId(name)
	var missingID user.UnknownUserIdError
	if errors.As(err, &missingID) {
		err = unknown(name)
	}
	return u, err
}

func (system) groupsOf(u *user.User) ([]string, error) { return u.GroupIds() }
