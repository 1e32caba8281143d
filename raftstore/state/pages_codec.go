package state

import (
	"encoding/binary"

	"github.com/ringfort/ringfort/shardmap"
)

// A stored page of the request table:
//
//	format   u8 = 2
//	horizon  uvarint, shard time in µs
//	mentions uvarint, then each:
//	  client      16 bytes
//	  not-after   uvarint: 0 when a later page is the client's home,
//	              otherwise 1 + its distance below the horizon
//	  lowest open uvarint, unless not-after is 0
//	answers  uvarint, then each in the order of their versions:
//	  mention     uvarint, position in the list above
//	  number      as distance from the answer before (see appendNear)
//	  version     uvarint, as distance above the answer before
//	  detail      uvarint length, bytes as in detail.go
//
// Format 1 had no details.
const pageFormat = 2

const (
	minMentionBytes = uint64(len(ClientID{}) + 1)
	minAnswerBytes  = 4
)

func (p *page) appendTo(dst []byte) []byte {
	dst = append(dst, pageFormat)
	dst = binary.AppendUvarint(dst, p.horizon)
	dst = binary.AppendUvarint(dst, uint64(len(p.mentions)))
	for i, c := range p.mentions {
		c.mention = i
		dst = append(dst, c.id[:]...)
		if c.home != p {
			// The client has moved on. Its state of today would be out of order
			// here: a page in between knows it as it was then.
			dst = append(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(dst, 1+p.horizon-c.notAfter)
		dst = binary.AppendUvarint(dst, c.lowestOpen)
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.recorded)))
	var number, version uint64
	for i := range p.recorded {
		r := &p.recorded[i]
		dst = binary.AppendUvarint(dst, uint64(r.client.mention))
		dst = appendNear(dst, number, r.number)
		dst = binary.AppendUvarint(dst, r.version-version)
		dst = append(binary.AppendUvarint(dst, uint64(len(r.detail))), r.detail...)
		number, version = r.number, r.version
	}
	return dst
}

// loadTable reads all pages of the shard whose arc begins at from, and asserts
// that they can have been left by a machine that is at position.
func loadTable(r Reader, from shardmap.Slot, position *AppliedState, l limits) (*table, error) {
	t := newTable(l)
	lower, upper := requestSpan(from)
	err := r.Scan(lower, upper, func(key, value []byte) error {
		index, ok := parseRequestKey(key, from)
		if !ok || index == 0 || index > position.Index {
			return corrupt("request table key %x at applied index %d", key, position.Index)
		}
		return t.loadPage(index, value, position)
	})
	if err != nil {
		return nil, err
	}
	if len(t.released) != 0 {
		return nil, corrupt("request table holds page %d, which nothing needs", t.released[0])
	}
	return t, nil
}

// loadPage replays a page through the same steps that once made it.
func (t *table) loadPage(index uint64, value []byte, position *AppliedState) error {
	c, err := open("request table page", value, pageFormat)
	if err != nil {
		return err
	}
	t.index = index
	t.current = &page{index: index, horizon: c.limited(position.ShardTime + maxRequestAheadMicros)}
	for range c.count(MaxEntryOps, minMentionBytes) {
		t.loadMention(&c)
	}
	var last recorded
	for range c.count(MaxEntryOps, minAnswerBytes) {
		last = t.loadAnswer(&c, last, position.LastVersion)
	}
	newest := t.pages.newest
	if len(t.touched) == 0 || newest != nil && newest.horizon > t.current.horizon {
		c.spoil()
	}
	if err := c.finish("request table page"); err != nil {
		return err
	}
	t.seal(t.current)
	t.current = nil
	return nil
}

// loadMention reads one client's state, which cannot be behind that in an older
// page.
func (t *table) loadMention(c *cursor) {
	var id ClientID
	copy(id[:], c.bytes(uint64(len(id))))
	below := c.limited(1 + t.current.horizon)
	var lowestOpen uint64
	if below != 0 {
		lowestOpen = c.uvarint()
	}
	cl := t.clients[id]
	if cl == nil {
		cl = t.addClient(id)
	}
	if cl.home == t.current {
		c.spoil()
	}
	t.touch(cl)
	if below == 0 {
		return
	}
	notAfter := 1 + t.current.horizon - below
	if lowestOpen < cl.lowestOpen || notAfter < cl.notAfter {
		c.spoil()
	}
	t.closeBelow(cl, lowestOpen)
	cl.notAfter = notAfter
}

// loadAnswer reads one answer, which was open when its page was written.
func (t *table) loadAnswer(c *cursor, before recorded, lastVersion uint64) recorded {
	mention, number, delta := c.uvarint(), c.near(before.number), c.uvarint()
	detail := string(c.bytes(c.limited(maxDetail)))
	if !c.ok() || mention >= uint64(len(t.touched)) || delta == 0 || delta > lastVersion-before.version {
		c.spoil()
		return before
	}
	r := recorded{client: t.touched[mention], number: number, version: before.version + delta, detail: detail}
	_, twice := r.client.answers.find(number)
	if _, sound := kept(r.version, detail); !sound || twice || number == 0 || !r.isOpen() {
		c.spoil()
		return before
	}
	t.remember(r)
	return r
}
