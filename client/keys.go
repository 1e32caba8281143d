package client

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/ringfort/ringfort/shardmap"
)

// Keys chooses keys for Scan, Count, DeleteRange and Watch. Keys are ordered by
// their bytes. The zero value is All.
type Keys struct {
	from, to string // [from, to); an empty to has no bound
	one      bool   // all of them lie in slot
	slot     shardmap.Slot
	nothing  bool
	flaw     string
}

// All chooses every key.
func All() Keys { return Keys{} }

// Key chooses one key.
func Key(key string) Keys {
	k := Keys{from: key, to: key + "\x00", one: true, slot: shardmap.SlotOf([]byte(key))}
	if key == "" {
		k.flaw = "the key is empty"
	}
	return k
}

// Prefix chooses the keys that begin with p. If p holds a complete hash tag, as in
// "{user17}" or "cart/{user17}/", they all lie in one slot of one shard, and are
// found without asking the others.
func Prefix(p string) Keys {
	k := Keys{from: p, to: prefixEnd(p)}
	k.slot, k.one = tagSlot(p)
	return k
}

// Range chooses the keys from from on and before to. An empty to has no bound. A
// from behind to is an error of kind ErrInvalid.
func Range(from, to string) Keys {
	k := Keys{from: from, to: to}
	if to == "" {
		return k
	}
	k.nothing = from == to
	if from > to {
		k.flaw = fmt.Sprintf("the range begins at %s, behind its end %s", quoteKey(from), quoteKey(to))
	}
	common := 0
	for common < min(len(from), len(to)) && from[common] == to[common] {
		common++
	}
	k.slot, k.one = tagSlot(from[:common])
	return k
}

// prefixEnd is the first key behind all that begin with p; empty when there is
// none.
func prefixEnd(p string) string {
	for n := len(p); n > 0; n-- {
		if last := p[n-1]; last < 0xff {
			return p[:n-1] + string([]byte{last + 1})
		}
	}
	return ""
}

// tagSlot is the slot of every key that begins with p, if p decides it.
func tagSlot(p string) (shardmap.Slot, bool) {
	_, rest, ok := strings.Cut(p, "{")
	if !ok || strings.IndexByte(rest, '}') <= 0 {
		return 0, false // "{}" is no tag: the whole key is hashed
	}
	return shardmap.SlotOf([]byte(p)), true
}

// arc is the slots in which the keys may lie.
func (k Keys) arc() shardmap.Arc {
	if k.one {
		return shardmap.Arc{From: k.slot, To: k.slot + 1}
	}
	return shardmap.Arc{From: 0, To: shardmap.Slots}
}

// compareBySlot orders keys as scans BySlot do.
func compareBySlot(a, b []byte) int {
	return cmp.Or(cmp.Compare(shardmap.SlotOf(a), shardmap.SlotOf(b)), bytes.Compare(a, b))
}

// check returns why the choice makes no sense, "" if it does.
func (k Keys) check(l *limits) string {
	most := int(l.key.Load()) + 1
	if k.flaw == "" && max(len(k.from), len(k.to)) > most {
		return fmt.Sprintf("a bound has %d bytes, and no key has more than %d", max(len(k.from), len(k.to)), most-1)
	}
	return k.flaw
}
