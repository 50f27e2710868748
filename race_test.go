//go:build race

package spawn

// raceDetector says whether the tests run with the race detector.
const raceDetector = true
