// Package plan checks a command against this machine, opens what the child
// needs, and writes its program. Each attribute has a file, and one table says
// in which order the child does what: order.go.
//
// Only run and the tests make plans. Everything here is for Linux, but the
// options, by which run is called on every system.
package plan
