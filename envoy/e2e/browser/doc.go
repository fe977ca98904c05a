// Package browser signs people in and out with a real Chromium, through a real
// Envoy, over a real Redis and a real PostgreSQL. It is a module of its own, so
// that the product does not depend on the packages that drive a browser.
//
// The tests write a picture of every page, in every state and language, into the folder
// screenshots, and axe looks for barriers on each, light and dark, 1280 and 390 wide. With
// the flag -keep some of the pictures also go to the folder kept, which is part of the
// repository. Chromium is the program that the variable CHROMIUM names, else chromium on
// the PATH, else in .tools/bin, where .ci/fetch puts it. axe.min.js is the file that AXE
// names, else what .ci/fetch axe puts into .tools. Without them the tests fail; they are
// never skipped.
package browser
