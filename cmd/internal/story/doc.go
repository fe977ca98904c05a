// Package story reads Coatcheck's log and tells what happened to a user, a session or
// a request, in order of time:
//
//	log, err := story.Open([]string{"coatcheck.log"}, os.Stdin)
//	defer log.Close()
//	told, err := story.Tell(ctx, log, story.Query{UserIDs: []string{"42"}})
//	for _, event := range told.Events { ... }
//
// A decision line names a session by its handle, and no user. The lines of logins and
// of ended sessions name both. So [Tell] reads the log twice: first to learn which
// handles matter, then to tell what happened to them. The two orders that it does not
// rely on are that of the lines, because kubectl logs gives one pod after the other,
// and that of the files. A pipe, which cannot be read twice, is kept in a temporary
// file without a name.
//
// The size of a log is unbounded, and the memory is not: equal decisions are folded
// into one [Event], and there is a greatest number of events and of handles. What is
// beyond it is counted in [Story.LeftOut].
//
// Text in a log comes from clients: a program that prints it must escape it. Session IDs
// are taken out here.
package story
