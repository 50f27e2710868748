module github.com/virspawn/spawn/examples/seccomp

go 1.24.0

require (
	github.com/elastic/go-seccomp-bpf v1.6.0
	github.com/virspawn/spawn v0.0.0
	golang.org/x/net v0.41.0
	golang.org/x/sys v0.41.0
)

require (
	github.com/cyphar/filepath-securejoin v0.5.1 // indirect
	github.com/opencontainers/selinux v1.13.1 // indirect
	github.com/syndtr/gocapability v0.0.0-20200815063812-42c35b437635 // indirect
)

replace github.com/virspawn/spawn => ../..
