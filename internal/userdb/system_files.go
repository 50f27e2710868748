//go:build unix && !android && !((cgo || darwin) && !osusergo)

package userdb

var database = files{"/etc/passwd", "/etc/group"}
