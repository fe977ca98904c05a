package login

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// when is a time for people, in the zone that all of them can look up: a page without
// JavaScript does not know theirs.
func (p *pages) when(t time.Time) string {
	t = t.UTC()
	day := strconv.Itoa(t.Day())
	if t.Day() == 1 {
		day = p.text["first_day"]
	}
	return fill(p.text["date"], "day", day, "month", strings.Fields(p.text["months"])[t.Month()-1],
		"year", strconv.Itoa(t.Year()), "time", t.Format("15:04"))
}

// at is a time in the near future: without its date where that is today's.
func (p *pages) at(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.Truncate(24 * time.Hour).Equal(now.Truncate(24 * time.Hour)) {
		return fill(p.text["clock"], "time", t.Format("15:04"))
	}
	return p.when(t)
}

// until says when a session ends: at its absolute limit, or when it has not been used
// for the idle timeout.
func (p *pages) until(end, now time.Time, idle time.Duration) string {
	return fill(p.text["until_or_idle"], "time", p.at(end, now), "idle", p.lasting(idle))
}

// validateMonths counts the names of months, for which when looks.
func validateMonths(text map[string]string) error {
	if n := len(strings.Fields(text["months"])); n != 12 {
		return fmt.Errorf("texts: months: %d names with blanks between them, and not 12", n)
	}
	return nil
}
