package mirror

import (
	"bytes"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/ringfort/ringfort/client"
)

// entry is what a key holds.
type entry struct {
	value   string
	version uint64
	due     time.Duration // not before this may its deadline come; 0 for no deadline
}

// model is the keys of one epoch. Models are values: operations make new ones.
type model map[string]entry

// verb is what an operation does.
type verb string

const (
	put     verb = "put"
	del     verb = "delete"
	add     verb = "add"
	expire  verb = "expire"
	persist verb = "persist"
	get     verb = "get"
	txn     verb = "txn"
)

type condition string

const (
	always    condition = ""
	ifAbsent  condition = "if absent"
	ifPresent condition = "if present"
	ifVersion condition = "if version"
)

// op is one operation, or one leaf of a transaction.
type op struct {
	Verb     verb
	Key      string
	Value    string
	Cond     condition
	Version  uint64 // of ifVersion
	TTL      time.Duration
	Keep     bool
	Previous bool
	Delta    int64
	If       []compare
	Then     []op
	Else     []op
}

type compare struct {
	Kind    string // absent, present, version, value
	Key     string
	Version uint64
	Value   string
}

// event is what an operation does to one key, as a watch tells it.
type event struct {
	Type  client.EventType
	Key   string
	Value string
}

// effect is what an operation comes to: its answer, the model after it, and its
// events in the order of their keys. version is that of the write, as answered; call
// is when it was made, from which its deadlines count.
func (m model) effect(o op, version uint64, call time.Duration) (answer string, after model, events []event) {
	after = maps.Clone(m)
	touched := make(map[string]client.EventType)
	if o.Verb == txn {
		answer = after.txn(o, version, call, touched)
	} else if !m.holds(o) {
		e, ok := m[o.Key]
		return fmt.Sprintf("refused: exists %t, version %d", ok, e.version), m, nil
	} else {
		answer = after.leaf(o, version, call, touched)
	}
	if strings.HasPrefix(answer, "!") { // a sum that fails takes everything with it
		return answer, m, nil
	}
	for _, k := range slices.Sorted(maps.Keys(touched)) {
		ev := event{Type: touched[k], Key: k}
		if ev.Type == client.EventPut {
			ev.Value = after[k].value
		}
		events = append(events, ev)
	}
	return answer, after, events
}

func (m model) holds(o op) bool {
	e, ok := m[o.Key]
	switch o.Cond {
	case ifAbsent:
		return !ok
	case ifPresent:
		return ok
	case ifVersion:
		return ok && e.version == o.Version
	}
	return true
}

func (m model) txn(o op, version uint64, call time.Duration, touched map[string]client.EventType) string {
	leaves, answer := o.Then, "then"
	for _, c := range o.If {
		if !m.compares(c) {
			leaves, answer = o.Else, "else"
			break
		}
	}
	for _, leaf := range leaves {
		a := m.leaf(leaf, version, call, touched)
		if strings.HasPrefix(a, "!") {
			return a
		}
		answer += "; " + a
	}
	return answer
}

func (m model) compares(c compare) bool {
	e, ok := m[c.Key]
	switch c.Kind {
	case "absent":
		return !ok
	case "present":
		return ok
	case "version":
		return e.version == c.Version
	}
	return ok && e.value == c.Value
}

// leaf does one thing to the model in place.
func (m model) leaf(o op, version uint64, call time.Duration, touched map[string]client.EventType) string {
	e, ok := m[o.Key]
	switch o.Verb {
	case get:
		return show(e, ok)
	case put:
		after := entry{value: o.Value, version: version}
		if o.Keep {
			after.due = e.due
		} else if o.TTL > 0 {
			after.due = call + o.TTL
		}
		m[o.Key], touched[o.Key] = after, client.EventPut
		return "ok" + previous(o, e, ok)
	case del:
		delete(m, o.Key)
		touched[o.Key] = client.EventDelete
		return "ok" + previous(o, e, ok)
	case expire, persist:
		if !ok {
			return "absent"
		}
		e.version, e.due = version, 0
		if o.Verb == expire {
			e.due = call + o.TTL
		}
		m[o.Key] = e
		if touched[o.Key] != client.EventPut {
			touched[o.Key] = client.EventDeadline
		}
		return "ok"
	case add:
		n := new(big.Int)
		if _, good := n.SetString(e.value, 10); ok && (!good || n.String() != e.value || !n.IsInt64()) {
			return "!not a number"
		}
		if n.Add(n, big.NewInt(o.Delta)); !n.IsInt64() {
			return "!overflow"
		}
		m[o.Key], touched[o.Key] = entry{value: n.String(), version: version, due: e.due}, client.EventPut
		return "sum " + n.String()
	}
	panic("mirror: unknown verb " + o.Verb)
}

func previous(o op, e entry, ok bool) string {
	if !o.Previous {
		return ""
	}
	return ", before it " + show(e, ok)
}

func show(e entry, ok bool) string {
	if !ok {
		return "nothing"
	}
	return fmt.Sprintf("%q v%d", e.value, e.version)
}

func showItem(it *client.Item) string {
	if it == nil {
		return "nothing"
	}
	return show(entry{value: string(it.Value), version: it.Version}, true)
}

// list is the answer to a scan of all keys.
func (m model) list() string {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s=%s ", k, show(m[k], true))
	}
	return b.String()
}

// variants are the models there may be at a time, given that there may have been m:
// a deadline that can have come may have taken effect or not.
func (m model) variants(now time.Duration) []model {
	all := []model{m}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if e := m[k]; e.due == 0 || e.due > now {
			continue
		}
		for _, v := range slices.Clone(all) {
			gone := maps.Clone(v)
			delete(gone, k)
			all = append(all, gone)
		}
	}
	return all
}
