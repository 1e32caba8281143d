package contract

import (
	"testing"

	"github.com/ringfort/ringfort/client"
)

// The judge must see what it is there to see.
func TestTheJudge(t *testing.T) {
	put := func(key string, number int) client.Event {
		return client.Event{Type: client.EventPut, Key: key, Value: valueOf(key, number)}
	}
	gone := func(key string) client.Event { return client.Event{Type: client.EventDelete, Key: key} }
	group := []client.Event{put("{group 1}/a", 1), put("{group 1}/b", 1), put("{group 1}/n", 1)}
	const p = "put/1/1"
	upTo4 := []client.Event{put(p, 1), put(p, 2), put(p, 3), put(p, 4)}
	for _, test := range []struct {
		name   string
		events []client.Event
		good   bool
	}{
		{"in order", upTo4, true},
		{"a delete", append(upTo4[:4:4], gone(p), put(p, 6)), true},
		{"a delete left out", append(upTo4[:4:4], put(p, 6)), false},
		{"a delete repeated", append(upTo4[:4:4], gone(p), gone(p)), false},
		{"a delete too early", append(upTo4[:3:3], gone(p)), false},
		{"a gap", []client.Event{put(p, 1), put(p, 3)}, false},
		{"a gap at the beginning", []client.Event{put(p, 2)}, false},
		{"a repeat", []client.Event{put(p, 1), put(p, 1)}, false},
		{"out of order", []client.Event{put(p, 1), put(p, 3), put(p, 2)}, false},
		{"an expiry", []client.Event{{Type: client.EventExpire, Key: p}}, false},
		{"a foreign value", []client.Event{{Type: client.EventPut, Key: p, Value: []byte("1")}}, false},
		{"a whole group", group, true},
		{"a torn group", group[:2], false},
	} {
		v := newView()
		if err := v.take(client.Changes{Kind: client.ChangeSet, Events: test.events}); (err == nil) != test.good {
			t.Errorf("%s: %v", test.name, err)
		}
	}

	// Behind a reset a key without a value may have seen any number of deletes.
	v := newView()
	v.keys[p] = &known{number: 4, vague: true}
	if n, _ := v.lacks(map[string]int{p: 9}); n != 1 {
		t.Error("write 9 is no delete")
	}
	if n, _ := v.lacks(map[string]int{p: 10}); n != 0 {
		t.Error("write 10 is a delete")
	}
	if _, err := v.event(gone(p)); err == nil {
		t.Error("a delete of what is not there")
	}
	if _, err := v.event(put(p, 12)); err == nil {
		t.Error("write 12 does not follow a delete")
	}
	if _, err := v.event(put(p, 11)); err != nil {
		t.Error(err)
	}
	if _, err := v.event(put("put/2/2", 6)); err == nil {
		t.Error("nothing was reset of this key")
	}
	v.forget(func(key string) bool { return key == "put/3/3" })
	if _, err := v.event(put("put/3/3", 6)); err != nil {
		t.Error(err)
	}
	if _, err := v.event(put("put/4/4", 6)); err == nil {
		t.Error("nothing was reset of this key")
	}
	if err := v.item(client.Item{Key: p, Value: valueOf(p, 9)}); err == nil {
		t.Error("a reset goes back in time")
	}
}
