package config

// formats are the formats of other programs, in the order of the reference. A further one is
// its folder in sessions/foreign, a file like express.go with its row, and its line here.
var formats = []*format{expressFormat}
