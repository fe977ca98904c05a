package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"

	"github.com/coatcheck/coatcheck/sessions"
)

// Who is signed in, of all users, and which user IDs a name stands for.
func ExampleManager_Scan() {
	store, closeStore := openStore()
	defer closeStore()
	_, able := store.(sessions.Scanner)
	manager, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	for _, n := range []sessions.NewSession{{UserID: "42", Username: "Ada", Roles: []string{"admin"}}, {UserID: "43", Username: "Grace"}} {
		if _, _, err := manager.Create(ctx, n); err != nil {
			log.Fatal(err)
		}
	}
	var last sessions.Progress
	admins := 0
	for found, err := range manager.Scan(ctx, func(p sessions.Progress) { last = p }) {
		switch {
		case errors.Is(err, sessions.ErrNoScan), err != nil:
			log.Fatal(err) // not all of them were found
		case found.Err == nil && len(found.Session.Roles) > 0:
			admins++
		}
	}
	fmt.Println(able, admins, last.Records, last.Done)
	ids, err := manager.UserIDs(ctx, "ada", nil)
	fmt.Println(ids, err)
	// Output:
	// true 1 2 1
	// [42] <nil>
}

// Whether a program of another language writes sessions as it should, as a test of that
// program would ask.
func ExampleManager_Verify() {
	store, closeStore := openStore()
	defer closeStore()
	_, able := store.(sessions.Indexer) // which can tell how sessions are listed
	manager, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	id, session, err := manager.Create(ctx, sessions.NewSession{UserID: "42"})
	if err != nil {
		log.Fatal(err)
	}
	findings, err := manager.Verify(ctx, session.Key)
	fmt.Println(able, len(findings), err)
	findings, err = manager.VerifyID(ctx, id) // also finds a record in a wrong place
	fmt.Println(len(findings), err)
	for verified, err := range manager.VerifyAll(ctx, nil) {
		if err != nil {
			log.Fatal(err)
		}
		for _, f := range verified.Findings {
			if f.Field != sessions.FindingKey && f.Field != sessions.FindingListing {
				fmt.Println(verified.Key.Handle(), f.Field, f.Problem, f.Cure)
			}
		}
	}
	// Output:
	// true 0 <nil>
	// 0 <nil>
}

// A pageStore has one record. The methods of a whole store are left out.
type pageStore struct {
	sessions.Store
	record sessions.Listed
}

// Scan implements [sessions.Scanner].
func (s pageStore) Scan(context.Context, []string) iter.Seq2[sessions.Page, error] {
	return func(yield func(sessions.Page, error) bool) {
		yield(sessions.Page{Records: []sessions.Listed{s.record}, Done: 1}, nil)
	}
}

// Listings implements [sessions.Indexer].
func (pageStore) Listings(_ context.Context, userIDs []string, _ []sessions.Key) ([]sessions.Listing, error) {
	return make([]sessions.Listing, len(userIDs)), nil // lists no session
}

// A store of one's own that can go through its records.
func ExampleScanner() {
	record := sessions.Record{"v": "1", "user_id": "42", "expires_at": "soon"}
	store := pageStore{record: sessions.Listed{Key: sessions.NewID().Key(), Entry: sessions.Entry{Record: record, TTL: 1}}}
	manager, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		log.Fatal(err)
	}
	var verified sessions.Verified
	for verified, err = range manager.VerifyAll(context.Background(), nil) {
		for _, f := range verified.Findings {
			fmt.Println(finding(f), err)
		}
	}
	for found := range manager.Scan(context.Background(), nil) {
		fmt.Println(foundUser(found))
	}
	// Output:
	// expires_at is not an RFC 3339 time (refused: true) <nil>
	// the listing does not have the session, so no revocation of all of the user's sessions finds it (refused: false) <nil>
	// 42 broken session record: expires_at is not an RFC 3339 time
}

func finding(f sessions.Finding) string {
	return fmt.Sprintf("%s %s (refused: %v)", f.Field, f.Problem, f.Refused)
}

func foundUser(f sessions.Found) string { return fmt.Sprint(f.UserID, " ", f.Err) }
