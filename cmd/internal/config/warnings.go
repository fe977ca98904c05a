package config

import (
	"fmt"
	"time"

	"github.com/coatcheck/coatcheck/internal/notice"
)

// envoyTimeout is how long Envoy waits for a check unless its configuration says
// otherwise.
const envoyTimeout = 200 * time.Millisecond

// A Warning is about values that are allowed but probably not meant.
type Warning struct {
	Notice notice.Name
	// Values are the keys with their values.
	Values string
}

// String is the warning with its cure, for people.
func (w Warning) String() string {
	for _, i := range notice.All() {
		if i.Name == w.Notice {
			return fmt.Sprintf("%s (%s); %s", i.Text, w.Values, i.Cure)
		}
	}
	return w.Values
}

// Warnings names what is allowed but probably not meant.
func (c *Config) Warnings() (all []Warning) {
	if c.IdleTimeout > c.AbsoluteTimeout {
		all = append(all, Warning{notice.IdleBeyondMaximum, fmt.Sprintf("session.idle_timeout is %s, session.absolute_timeout %s",
			shown(c.IdleTimeout.String()), shown(c.AbsoluteTimeout.String()))})
	}
	if c.Listen != "" && c.Timeout >= envoyTimeout {
		all = append(all, Warning{notice.LongTimeout, "timeout is " + shown(c.Timeout.String())})
	}
	return all
}
