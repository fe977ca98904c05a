//go:build race

package passwords_test

func init() { raceDetector = true }
