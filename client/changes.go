package client

import (
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// ChangesKind says what a watch gives out.
type ChangesKind uint8

const (
	// ChangeSet: the changes of one version. An atomic group arrives whole.
	ChangeSet ChangesKind = iota + 1
	// Progress: nothing but a newer Token.
	Progress
	// Reset: what there is now, in place of changes that were lost. It comes in one
	// or more parts; on the first forget all keys that it Covers, then take the Items
	// of each.
	Reset
)

// Changes is what the loop of a watch gets at a time.
type Changes struct {
	Kind ChangesKind
	// Version of the changes, of the progress, or of the snapshot of a reset. It is
	// one of the shard that the keys lie in; those of different shards do not compare.
	Version uint64
	Events  []Event // of a ChangeSet, in the order in which they were made
	Items   []Item  // of a Reset
	// First and Last mark the parts of a Reset. A First while another reset of the
	// same keys is not through begins it again.
	First, Last bool
	// Token is the position behind this and everything before it; From it another
	// watch continues. During a reset it stays before the reset until the last part.
	Token Token

	arc shardmap.Arc
}

// Covers reports whether a key is among those that these changes speak of: for a
// Reset, whether what was known of it is void. Whether the watch asked for the key
// at all is another matter.
func (c *Changes) Covers(key string) bool { return c.arc.Contains(shardmap.SlotOf([]byte(key))) }

// EventType says what happened to a key.
type EventType uint8

// The types of event.
const (
	EventPut      EventType = iota + 1
	EventDelete             // also of a key that did not exist
	EventExpire             // its deadline had come
	EventDeadline           // the deadline was changed or removed, the value was not
)

var eventNames = [...]string{"unknown", "put", "delete", "expire", "deadline"}

func (t EventType) String() string {
	if int(t) < len(eventNames) {
		return eventNames[t]
	}
	return eventNames[0]
}

// Event is what one write did to one key.
type Event struct {
	Type    EventType
	Key     string
	Value   []byte    // of a put
	Expires time.Time // of a put or deadline: in shard time; zero for none
}

func eventOf(c *kvv1.Change) Event {
	e := Event{Key: string(c.GetKey()), Value: c.GetValue(), Expires: shardInstant(c.GetExpiresUs())}
	switch c.GetKind() {
	case kvv1.ChangeKind_CHANGE_KIND_PUT:
		e.Type = EventPut
	case kvv1.ChangeKind_CHANGE_KIND_DELETE:
		e.Type = EventDelete
	case kvv1.ChangeKind_CHANGE_KIND_EXPIRE:
		e.Type = EventExpire
	case kvv1.ChangeKind_CHANGE_KIND_DEADLINE:
		e.Type = EventDeadline
	}
	return e
}
