// Package browser signs people in and out with a real Chromium, through a real
// Envoy, over a real Redis and a real PostgreSQL. It is a module of its own, so
// that the product needs none of what drives a browser.
//
// The tests write a picture of every page in every state into the folder
// screenshots. Chromium is the one that the variable CHROMIUM names, else the one
// on the PATH, else the one that .ci/fetch has put into .tools/bin. Where there is
// none the tests fail; they are never skipped.
package browser
