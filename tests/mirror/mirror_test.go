package mirror

import (
	"strings"
	"testing"
	"time"

	"github.com/ringfort/ringfort/client"
)

func tag(k string) string { return "{e}" + k }

// good is what a faultless watch tells of three writes and an expiry.
func good() ([]change, []arrival) {
	put := func(key, value string) []event {
		return []event{{Type: client.EventPut, Key: tag(key), Value: value}}
	}
	written := []change{
		{10, put("a", "1")},
		{20, []event{{Type: client.EventPut, Key: tag("a"), Value: "2"}, {Type: client.EventDelete, Key: tag("b")}}},
		{30, put("s", "3")},
	}
	told := func(version uint64, events ...client.Event) arrival {
		return arrival{Changes: client.Changes{Kind: client.ChangeSet, Version: version, Events: events}}
	}
	return written, []arrival{
		{Changes: client.Changes{Kind: client.Progress, Version: 5}},
		told(10, client.Event{Type: client.EventPut, Key: tag("a"), Value: []byte("1")}),
		told(20, client.Event{Type: client.EventDelete, Key: tag("b")}, client.Event{Type: client.EventPut, Key: tag("a"), Value: []byte("2")}),
		told(30, client.Event{Type: client.EventPut, Key: tag("s"), Value: []byte("3")}),
		told(40, client.Event{Type: client.EventExpire, Key: tag("s")}),
	}
}

func judged(written []change, seen []arrival, doubt *op) error {
	w := New(Options{Honest: true})
	return w.judge(&epoch{written: written, doubt: doubt, watch: &watch{seen: seen}})
}

func TestTheJudgeOfWatches(t *testing.T) {
	reset := func(version uint64, items ...client.Item) arrival {
		return arrival{Changes: client.Changes{Kind: client.Reset, Version: version, First: true, Last: true, Items: items}}
	}
	a2 := client.Item{Key: tag("a"), Value: []byte("2"), Version: 20}
	for name, tc := range map[string]struct {
		change func([]arrival) []arrival
		doubt  *op
		wrong  string // "" for a sound history
	}{
		"all is told":            {change: func(s []arrival) []arrival { return s }},
		"a change is left out":   {change: func(s []arrival) []arrival { return append(s[:1:1], s[2:]...) }, wrong: "version 20 is told"},
		"the last is left out":   {change: func(s []arrival) []arrival { return s[:3] }, wrong: "told 2 of 3"},
		"a change comes twice":   {change: func(s []arrival) []arrival { return append(s[:2:2], s[1:]...) }, wrong: "come after 10"},
		"changes swap places":    {change: func(s []arrival) []arrival { s[1], s[2] = s[2], s[1]; return s }, wrong: "version 20 is told"},
		"a group is torn":        {change: func(s []arrival) []arrival { s[2].Events = s[2].Events[:1]; return s }, wrong: "version 20 is told"},
		"another value":          {change: func(s []arrival) []arrival { s[1].Events[0].Value = []byte("x"); return s }, wrong: "version 10 is told"},
		"nobody wrote it":        {change: func(s []arrival) []arrival { return append(s, s[1], with(s[1], 50)) }, wrong: "come after 40"},
		"nobody wrote it, later": {change: func(s []arrival) []arrival { return append(s, with(s[1], 50)) }, wrong: "never written"},
		"progress goes back":     {change: func(s []arrival) []arrival { return append(s, with(s[0], 39)) }, wrong: "progress to 39"},
		"expiry without a key":   {change: func(s []arrival) []arrival { return append(s, with(s[4], 50)) }, wrong: "before it there was"},
		"expiry without a deadline": {change: func(s []arrival) []arrival {
			s[4].Events[0].Key = tag("a")
			return s
		}, wrong: "has no deadline"},
		"a reset":                  {change: func(s []arrival) []arrival { return append(s[:2:2], reset(25, a2), s[3], s[4]) }},
		"a reset that lacks a key": {change: func(s []arrival) []arrival { return append(s[:2:2], reset(25), s[3]) }, wrong: "must be"},
		"a reset with too much":    {change: func(s []arrival) []arrival { return append(s[:2:2], reset(25, a2, client.Item{Key: tag("c")}), s[3]) }, wrong: "must not be"},
		"a reset hides a change":   {change: func(s []arrival) []arrival { return append(s[:2:2], reset(25, a2)) }, wrong: "told 2 of 3"},
		"a reset goes back":        {change: func(s []arrival) []arrival { return append(s, reset(35, a2)) }, wrong: "a reset to 35"},
		"doubt that came true":     {change: func(s []arrival) []arrival { return append(s, with(s[1], 50)) }, doubt: &op{Verb: put, Key: tag("a"), Value: "1"}},
		"doubt that did not":       {change: func(s []arrival) []arrival { return s }, doubt: &op{Verb: put, Key: tag("a"), Value: "1"}},
		"doubt that came true twice": {change: func(s []arrival) []arrival { return append(s, with(s[1], 50), with(s[1], 60)) },
			doubt: &op{Verb: put, Key: tag("a"), Value: "1"}, wrong: "never written"},
		"doubt about something else": {change: func(s []arrival) []arrival { return append(s, with(s[1], 50)) },
			doubt: &op{Verb: del, Key: tag("a")}, wrong: "in doubt would be"},
	} {
		written, seen := good()
		err := judged(written, tc.change(seen), tc.doubt)
		if tc.wrong == "" && err != nil || tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func with(a arrival, version uint64) arrival {
	a.Version = version
	return a
}

func TestTheJudgeOfOldReads(t *testing.T) {
	const s = time.Second
	e := &epoch{past: map[string][]past{"k": {
		{entry: entry{value: "1", version: 10}, exists: true, acked: 1 * s},
		{acked: 2 * s}, // deleted
		{entry: entry{value: "3", version: 30, due: 5 * s}, exists: true, acked: 3 * s},
	}}}
	read := func(value string, version uint64) client.Item {
		return client.Item{Value: []byte(value), Version: version}
	}
	for name, tc := range map[string]struct {
		it    client.Item
		found bool
		since time.Duration
		now   time.Duration
		ok    bool
	}{
		"before the first write":     {since: 0, now: s, ok: true},
		"the newest":                 {it: read("3", 30), found: true, since: 4 * s, now: 4 * s, ok: true},
		"old enough to be allowed":   {it: read("1", 10), found: true, since: 1500 * time.Millisecond, now: 4 * s, ok: true},
		"too old":                    {it: read("1", 10), found: true, since: 2 * s, now: 4 * s},
		"deleted, old enough":        {since: 2500 * time.Millisecond, now: 4 * s, ok: true},
		"deleted, too old":           {since: 3 * s, now: 4 * s},
		"gone, for it was due":       {since: 4 * s, now: 5 * s, ok: true},
		"a value of another version": {it: read("1", 30), found: true, since: 0, now: 4 * s},
		"a value that never was":     {it: read("x", 20), found: true, since: 0, now: 4 * s},
	} {
		if err := e.judgeOld("k", tc.it, tc.found, tc.since, tc.now); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A deadline splits the model until an answer tells which half is true, and not
// before it can have come.
func TestDeadlinesForkTheModel(t *testing.T) {
	k := tag("s")
	m := model{k: {value: "v", version: 5, due: 10}}
	if n := len(m.variants(9)); n != 1 {
		t.Errorf("%d variants before the deadline", n)
	}
	e := &epoch{models: []model{m}}
	shown := func(m model) string {
		known, ok := m[k]
		return show(known, ok)
	}
	if err := e.judgeNew("nothing", 9, shown); err == nil {
		t.Error("an early expiry was accepted")
	}
	if err := e.judgeNew("nothing", 10, shown); err != nil || len(e.models) != 1 {
		t.Errorf("%v, %v", err, e.models)
	}
	if err := e.judgeNew(`"v" v5`, 11, shown); err == nil {
		t.Error("a key that expired came back")
	}
}
