// Package policyfile reads the file that policy_file names: policies, the rules that
// pick them, and tests that prove what they decide.
//
//	file, err := policyfile.Open(path, cfg)
//	err = server.SetPolicies(file.Policies)
//
// Everything that users name stands in lists, or in maps that only tests have. Reading
// is strict: an unknown key, a value of another kind, a name that is not defined and a
// rule that is never asked are mistakes. The error names all of them at once, each with
// its line. A warning is about what is allowed but probably not meant.
package policyfile
