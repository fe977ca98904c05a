// Package doctor reads how Coatcheck is deployed, and finds what is unsafe there:
//
//	d := doctor.New(doctor.Deployment{Checks: configuration})
//	if err := d.Read(ctx, "envoy.yaml"); err != nil {
//		return err // it cannot be read, so that nothing can be said
//	}
//	report, err := d.Examine(ctx)
//	...
//	for _, f := range report.Findings {
//		fmt.Println(f.File, f.Line, f.ID, f.What, f.Cure)
//	}
//
// It reads configurations of Envoy and config dumps, with internal/envoyconfig, and
// manifests of Kubernetes: Istio's, Envoy Gateway's, and Coatcheck's own.
//
// # How it judges
//
// Each kind of finding is a [Rule]: a row beside the code that finds it, from which
// docs/doctor.md is made. A rule speaks where it is sure. What was not in what was read,
// such as routes of a control plane, is a [Note] and no guess. What Coatcheck itself
// would make of a route's context_extensions, the code of a check says.
//
// Names that a client could send are compared in the spellings that upstreams take for
// them, because a list that looks complete often forgets x.user.id.
//
// # How to add a rule
//
// Its constant and its row, the code that finds it, and a fixture of its name in
// testdata/bad: a test fails for a rule without one, and for a fixture that finds
// anything else. Where the fixture is a configuration of Envoy, Envoy itself must accept
// it. Then make docs.
package doctor
