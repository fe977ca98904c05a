// Package policyfile reads the file that policy_file names: policies, the rules
// that pick them, and tests that prove what they decide.
//
// Everything that users name stands in lists, or in maps that only tests have.
// Reading is strict: an unknown key, a value of another kind, a name that nobody
// defines, a rule that is never asked, all are mistakes, and all of them are named
// at once, each with its line. What is probably not meant, but could be, is a
// warning.
package policyfile
