package main

// The columns of a sample.
func serverCPU(s sample) float64   { return s.server }
func redisCPU(s sample) float64    { return s.redis }
func envoyCPU(s sample) float64    { return s.envoy }
func p50(s sample) float64         { return s.p50 }
func p99(s sample) float64         { return s.p99 }
func answerRate(s sample) float64  { return s.rate }
func allocations(s sample) float64 { return s.allocations }
func others(s sample) float64      { return s.others }

func serverAndRedis(s sample) float64 { return s.server + s.redis }
