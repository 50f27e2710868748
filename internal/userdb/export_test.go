package userdb

// LookupIn is Lookup in these files.
func LookupIn(passwd, group, name string) (User, error) {
	return lookup(files{passwd, group}, name)
}
