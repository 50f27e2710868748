module github.com/virspawn/spawn

go 1.24.0

require (
	github.com/opencontainers/selinux v1.13.1
	github.com/stretchr/testify v1.12.1
	github.com/syndtr/gocapability v0.0.0-20200815063812-42c35b437635
	golang.org/x/sys v0.41.0
)

require (
	github.com/cyphar/filepath-securejoin v0.5.1 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
