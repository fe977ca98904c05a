package main

import (
	"net"
	"strings"
)

// placeholders returns a function that fills in the addresses of a server's command.
func placeholders(address, metrics, redis string) func([]string) []string {
	replacer := strings.NewReplacer("{port}", port(address), "{metrics}", port(metrics), "{redis}", redis)
	return func(texts []string) []string {
		filled := make([]string, len(texts))
		for i, text := range texts {
			filled[i] = replacer.Replace(text)
		}
		return filled
	}
}

// port is the port of an address of testtools.Addr.
func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
