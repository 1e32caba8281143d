package contract

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ringfort/ringfort/client"
)

// The writes of each key are numbered from 1, and the number says what the write
// is, so that whoever reads knows what should have come.
//
//	put/…        PutMany or Put, each fifth one DeleteMany or Delete
//	add/…        Add of 1
//	{group …}/…  Txn: put a and b and add 1 to n, each fourth one deletes a and b
const (
	putsDelete   = 5
	groupsDelete = 4
	// padding makes changes long enough for slow readers to lose them.
	padding = 320
)

var groupParts = []string{"a", "b", "n"}

// deletes reports whether a key's write of that number is a delete.
func deletes(key string, number int) bool {
	switch {
	case strings.HasPrefix(key, "put/"):
		return number%putsDelete == 0
	case strings.HasPrefix(key, "{") && !strings.HasSuffix(key, "/n"):
		return number%groupsDelete == 0
	}
	return false
}

// valueOf is what a key's write of that number, which is no delete, leaves there.
func valueOf(key string, number int) []byte {
	text := strconv.AppendInt(nil, int64(number), 10)
	if strings.HasPrefix(key, "put/") {
		return append(append(text, ' '), bytes.Repeat([]byte{'.'}, padding)...)
	}
	return text
}

// numberOf is the inverse of valueOf.
func numberOf(key string, value []byte) (int, error) {
	text, _, _ := bytes.Cut(value, []byte{' '})
	number, err := strconv.Atoi(string(text))
	if err == nil && (number < 1 || deletes(key, number) || !bytes.Equal(value, valueOf(key, number))) {
		err = fmt.Errorf("no write left %q", value)
	}
	return number, err
}

// groupOf returns the keys of a key's atomic group.
func groupOf(key string) []string {
	tag, _, found := strings.Cut(key, "/")
	if !found || !strings.HasPrefix(tag, "{") {
		return nil
	}
	var keys []string
	for _, part := range groupParts {
		keys = append(keys, tag+"/"+part)
	}
	return keys
}

// view is what a watch has shown of all keys.
type view struct {
	keys   map[string]*known
	events int  // judged
	resets int  // of resets whose last part has come
	open   bool // a reset is not through
	// void says of which keys something may be known to others that this view was
	// never shown: a key that is not in keys is vague then.
	void []func(key string) bool
}

// known is what a view knows of a key.
type known struct {
	number int
	// vague: there is nothing, after a delete of that number or a later one.
	vague bool
}

func newView() *view { return &view{keys: map[string]*known{}} }

func (v *view) of(key string) *known {
	k := v.keys[key]
	if k == nil {
		k = &known{vague: slices.ContainsFunc(v.void, func(covers func(string) bool) bool { return covers(key) })}
		v.keys[key] = k
	}
	return k
}

// take judges what a watch has brought.
func (v *view) take(ch client.Changes) error {
	switch ch.Kind {
	case client.ChangeSet:
		whole := map[string]int{}
		for _, e := range ch.Events {
			if strings.HasPrefix(e.Key, tickPrefix) {
				continue
			}
			number, err := v.event(e)
			if err != nil {
				return fmt.Errorf("version %d: %w", ch.Version, err)
			}
			whole[e.Key] = number
		}
		for key, number := range whole {
			for _, other := range groupOf(key) {
				if whole[other] != number {
					return fmt.Errorf("version %d: a torn group: %s has write %d, %s %d", ch.Version, key, number, other, whole[other])
				}
			}
		}
	case client.Reset:
		return v.reset(ch)
	}
	return nil
}

func (v *view) event(e client.Event) (number int, err error) {
	k := v.of(e.Key)
	next := k.number + 1
	if e.Type == client.EventPut {
		if number, err = numberOf(e.Key, e.Value); err != nil {
			return 0, fmt.Errorf("%s: %w", e.Key, err)
		}
		if k.vague && number > k.number && (number == 1 || deletes(e.Key, number-1)) {
			next = number // what it must be is known again
		}
	} else if e.Type == client.EventDelete && deletes(e.Key, next) && !k.vague {
		number = next
	}
	if number != next {
		return 0, fmt.Errorf("%s: a %v of number %d instead of number %d (a delete has none)", e.Key, e.Type, number, next)
	}
	*k = known{number: number}
	v.events++
	return number, nil
}

func (v *view) reset(ch client.Changes) error {
	if ch.First {
		v.forget(ch.Covers)
	}
	v.open = !ch.Last
	if ch.Last {
		v.resets++
	}
	for _, item := range ch.Items {
		if err := v.item(item); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
	}
	return nil
}

// forget makes vague what a reset or a scan is to tell anew.
func (v *view) forget(covers func(key string) bool) {
	v.void = append(v.void, covers)
	for key, k := range v.keys {
		if covers(key) {
			k.vague = true
		}
	}
}

// item takes what a scan or a reset found.
func (v *view) item(item client.Item) error {
	if strings.HasPrefix(item.Key, tickPrefix) {
		return nil
	}
	number, err := numberOf(item.Key, item.Value)
	if k := v.of(item.Key); err == nil && number < k.number {
		err = fmt.Errorf("write %d was shown, and now %d", k.number, number)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", item.Key, err)
	}
	*v.of(item.Key) = known{number: number}
	return nil
}

// lacks returns how many keys do not stand where their last write left them, and
// one of them.
func (v *view) lacks(last map[string]int) (n int, example string) {
	for key, number := range last {
		k := v.of(key)
		if k.number == number && !k.vague || k.vague && k.number <= number && deletes(key, number) {
			continue
		}
		n, example = n+1, fmt.Sprintf("%s at %d of %d", key, k.number, number)
	}
	return n, example
}
