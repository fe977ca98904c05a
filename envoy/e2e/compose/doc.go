// Package compose brings docker-compose.yml up with the real docker compose, on a real
// engine, and plays the story of a user through it:
//
//	make compose
//
// It is a module of its own, because its go.mod pins docker compose, which .ci/fetch
// builds from there. Nothing else of that module is used.
//
// The test needs root, and dockerd: the one on the PATH, else Debian's, which
// .ci/fetch unpacks into .tools. That dockerd runs in namespaces of its own, with data
// of its own. So it changes neither the firewall of the machine nor an engine that is
// there, port 8000 is always free, and all of it ends with the test, however the test
// ends. In there no registry is needed: the images redis:7.4 and envoyproxy/envoy are
// made from the programs of the other tests, Debian's redis-server and PyPI's Envoy,
// under the names in the file.
//
// With DOCKER_HOST the test uses that engine instead, without root, with the images
// of the registries.
package compose
