package main

import (
	"slices"
	"time"
)

// median of nothing is 0.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// each applies a column to samples.
func each(samples []sample, column func(sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = column(s)
	}
	return values
}

// ratio is the median of the ratios within each round. The two must have been measured
// in the same rounds.
func ratio(of, to []sample, column func(sample) float64) float64 {
	var ratios []float64
	for i := range min(len(of), len(to)) {
		if base := column(to[i]); base > 0 {
			ratios = append(ratios, column(of[i])/base)
		}
	}
	return median(ratios)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
