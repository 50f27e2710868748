module github.com/virspawn/spawn/examples/activation

go 1.24.0

require (
	github.com/coreos/go-systemd/v22 v22.7.0
	github.com/virspawn/spawn v0.0.0
)

require (
	github.com/cyphar/filepath-securejoin v0.5.1 // indirect
	github.com/opencontainers/selinux v1.13.1 // indirect
	github.com/syndtr/gocapability v0.0.0-20200815063812-42c35b437635 // indirect
	golang.org/x/sys v0.41.0 // indirect
)

replace github.com/virspawn/spawn => ../..
