package sessions

import (
	"testing"
	"time"
)

// TestUntil: never shorter than the idle timeout, at most a step longer, and one
// end for a whole step.
func TestUntil(t *testing.T) {
	base := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, config := range []Config{
		{}, {IdleTimeout: time.Hour}, {IdleTimeout: time.Second}, {IdleTimeout: 10 * time.Millisecond},
		{IdleTimeout: time.Minute, IdleStep: time.Minute}, {IdleTimeout: time.Minute, IdleStep: 7 * time.Millisecond},
	} {
		m, err := NewManager(nil, config)
		if err != nil {
			t.Fatal(err)
		}
		ends := make(map[time.Time]bool)
		step := m.config.IdleStep
		for i := range 1000 {
			now := base.Add(time.Duration(i) * step / 100).Add(time.Duration(i) * time.Nanosecond)
			idle := m.until(now).Sub(now)
			if idle < m.config.IdleTimeout || idle > m.config.IdleTimeout+step {
				t.Fatalf("%+v: may idle for %v", m.config, idle)
			}
			ends[m.until(now)] = true
		}
		if len(ends) > 12 {
			t.Errorf("%+v: %d ends within 10 steps", m.config, len(ends))
		}
	}
}
