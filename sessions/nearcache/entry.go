package nearcache

import (
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/coatcheck/coatcheck/sessions"
)

const (
	// shardCount spreads the locks, so that two checks rarely want the same.
	shardCount = 64
	// slots of a shard count the changes of its keys. A change of one key spoils the
	// reads of the others in its slot, one in 4096, and those are read again.
	slots = 64
	// maxUnknown is how many keys are remembered that name nothing, apart from the
	// sessions, and unknownFor is for how long: requests with made-up IDs can fill
	// nothing else.
	maxUnknown = 4096
	unknownFor = time.Second
)

// A sum names an entry: the hash in its key.
type sum [sha256.Size]byte

func (s sum) slot() int { return int(s[1]) % slots }

func (c *Cache) shard(s sum) *shard { return &c.shards[s[0]%shardCount] }

// A shard is the part of a cache below one lock. A mutex, because it is held for some
// tens of nanoseconds, in which a lock for readers gains nothing.
type shard struct {
	mu      sync.Mutex
	entries map[sum]*entry
	unknown map[sum]int64 // when that is forgotten
	bytes   int64
	changes [slots]uint32
	results [resultCount]uint64
}

// clear forgets all but what is counted.
func (s *shard) clear() {
	s.entries, s.unknown, s.bytes = make(map[sum]*entry), make(map[sum]int64), 0
}

// sample is how many entries are looked at to find one that was not used for long.
const sample = 5

// victim is one of a few entries, the one that was not used for longest, other than the
// newcomer, unless there is no other.
func (s *shard) victim(newcomer sum) (sum, *entry) {
	found, victim := newcomer, s.entries[newcomer]
	seen := 0
	for sum, e := range s.entries { // in an order that is not foreseeable
		if sum == newcomer {
			continue
		}
		if seen == 0 || e.last < victim.last {
			found, victim = sum, e
		}
		if seen++; seen == sample {
			break
		}
	}
	return found, victim
}

// An entry is a session, which no caller changes, with what the cache knows of it, which
// is below the lock of the shard.
type entry struct {
	session sessions.Session
	fields  []string // the application fields that were asked for
	end     int64    // when it is no longer answered from here
	due     int64    // when a use has to slide it
	last    int64    // use
	size    int64
	used    bool
	sliding bool
}

// newEntry copies a session into one piece of memory: strings of a session may be parts
// of a larger reply, which would stay as long as the entry.
func newEntry(from *sessions.Session, fields []string) *entry {
	e := &entry{session: *from, fields: fields}
	s := &e.session
	s.IdleExpiresAt = time.Time{}
	s.Roles = slices.Clip(slices.Clone(s.Roles))
	texts := []*string{(*string)(&s.Key), &s.UserID, &s.Username, &s.Address, &s.UserAgent}
	for i := range s.Roles {
		texts = append(texts, &s.Roles[i])
	}
	length := pack(texts)
	if s.Fields != nil {
		s.Fields = make(map[string]string, len(from.Fields))
		for name, value := range from.Fields {
			s.Fields[strings.Clone(name)] = strings.Clone(value)
			length += len(name) + len(value) + perField
		}
	}
	e.size = int64(length + perEntry + len(s.Roles)*perRole)
	return e
}

// pack gives all texts one piece of memory, and returns its length.
func pack(texts []*string) int {
	var b strings.Builder
	length := 0
	for _, t := range texts {
		length += len(*t)
	}
	b.Grow(length)
	for _, t := range texts {
		b.WriteString(*t)
	}
	all := b.String()
	for _, t := range texts {
		*t, all = all[:len(*t)], all[len(*t):]
	}
	return length
}

// What an entry takes beside its texts, as measured: itself, its place in the map, and
// what the allocator rounds up; each role, and each application field.
const (
	perEntry = int(unsafe.Sizeof(entry{})) + 112
	perRole  = int(unsafe.Sizeof(""))
	perField = 112
)

// has reports whether all of fields were asked for.
func (e *entry) has(fields []string) bool {
	for _, field := range fields {
		if !slices.Contains(e.fields, field) {
			return false
		}
	}
	return true
}
