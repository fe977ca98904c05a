// Package browser signs people in and out with a real Chromium, through a real
// Envoy, over a real Redis and a real PostgreSQL. It is a module of its own, so
// that the product does not depend on the packages that drive a browser.
//
// The tests write a picture of every page in every state and language into the folder
// screenshots; go test -keep also writes those few of testdata/pictures anew. On every
// page axe-core looks for what keeps people out, light and dark, 1280 and 390 wide.
// Chromium is the program that the variable CHROMIUM names, else
// chromium on the PATH, else in .tools/bin, where .ci/fetch puts it. Without Chromium
// the tests fail; they are never skipped. AXE names axe.min.js, in the same way.
package browser
