//go:build race

package login_test

func init() { raceDetector = true }
