//go:build !race

package testkit

// RaceDetector says whether the tests run with the race detector.
const RaceDetector = false
