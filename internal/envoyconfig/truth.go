package envoyconfig

// A truth is whether a condition of the configuration holds for a request. Where that
// cannot be decided, open says what it depends on.
type truth struct {
	holds bool
	open  string
}

var yes, no = truth{holds: true}, truth{}

func decided(holds bool) truth { return truth{holds: holds} }

func undecided(on string) truth { return truth{open: on} }

// maxOpen bounds what a text says of what is open, in bytes, but for its last part.
const maxOpen = 1 << 10

// and is no if either side is: then the other does not matter.
func (t truth) and(next func() truth) truth {
	if t == no {
		return no
	}
	other := next()
	switch {
	case other == no, t.open == "":
		return other
	case other.open != "" && other.open != t.open && len(t.open) < maxOpen:
		return undecided(t.open + ", " + other.open)
	}
	return t
}

// not turns a decided truth round.
func (t truth) not(invert bool) truth {
	if t.open != "" || !invert {
		return t
	}
	return decided(!t.holds)
}
