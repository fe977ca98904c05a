// Package browser signs people in and out with a real Chromium, through a real
// Envoy, over a real Redis and a real PostgreSQL. It is a module of its own, so
// that the product does not depend on the packages that drive a browser.
//
// The tests write a picture of every page in every state into the folder
// screenshots. Chromium is the program that the variable CHROMIUM names, else
// chromium on the PATH, else in .tools/bin, where .ci/fetch puts it. Without Chromium
// the tests fail; they are never skipped.
package browser
