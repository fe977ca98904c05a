package login

import (
	"math"
	"time"
)

// lasting is how long d is, for people: rounded up to seconds below two minutes,
// and then to ever coarser units.
func (p *pages) lasting(d time.Duration) string {
	in := func(name string, unit time.Duration) string {
		return p.count(name, int(math.Ceil(float64(d)/float64(unit))))
	}
	switch {
	case d <= 2*time.Minute:
		return in("seconds", time.Second)
	case d <= 2*time.Hour:
		return in("minutes", time.Minute)
	case d <= 48*time.Hour:
		return in("hours", time.Hour)
	}
	return in("days", 24*time.Hour)
}

// ago is how long before now something was.
func (p *pages) ago(d time.Duration) string {
	if d < time.Minute {
		return p.text["just_now"]
	}
	if d <= 2*time.Minute {
		// Seconds would be finer than what we know.
		return fill(p.text["ago"], "time", p.count("minutes", 2))
	}
	return fill(p.text["ago"], "time", p.lasting(d))
}
