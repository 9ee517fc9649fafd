//go:build race

package differ

// raceDetector tells that the tests are built with it; the pooler then is too.
const raceDetector = true
