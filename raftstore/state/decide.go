package state

import (
	"bytes"
	"math"
	"strconv"

	"github.com/ringfort/ringfort/shardmap"
)

// decision is one operation that reads before it writes. Keys are looked up once;
// what the operation does to them is held here until all of it is known to
// succeed, so a transaction whose last leaf fails has written nothing.
type decision struct {
	m     *Machine
	b     Batch
	slot  shardmap.Slot
	keys  []touched
	read  int            // bytes of the values found
	index map[string]int // into keys; nil while they are few
}

// touched is a key as the operation sees it.
type touched struct {
	key     []byte
	exists  bool
	value   Value      // its Data is nobody else's
	stored  uint64     // the deadline that the index has for it, 0 for none
	changed ChangeKind // 0 while it is as it was
}

// few keys are found faster by looking at all.
const few = 8

// decide applies an operation that reads.
//
// A key whose deadline has come is gone exactly when its expiry is applied, and
// the operation that meets it is late: the expiry is applied first, under a
// version of its own, and the operation finds no key.
func (m *Machine) decide(b Batch, slot shardmap.Slot, op *Op) (Result, error) {
	d := decision{m: m, b: b, slot: slot}
	if err := d.lookAll(op); err != nil {
		return Result{}, err
	}
	if err := d.expireDue(); err != nil {
		return Result{}, err
	}
	version, err := m.nextVersion()
	if err != nil {
		return Result{}, err
	}
	res := Result{Verdict: Applied, Version: version}
	switch {
	case d.tooLarge():
		res.Verdict = TxnTooLarge
	case op.Kind == OpTxn:
		d.txn(op.Txn, &res)
	default:
		d.single(op, &res)
	}
	if res.Verdict != Applied {
		return res, nil
	}
	return res, d.write(version)
}

// lookAll ends where the values are too large for a decision: reading on, up to
// MaxTxnOps values of MaxValueBytes, would hold up every replica's apply loop.
func (d *decision) lookAll(op *Op) error {
	if op.Kind != OpTxn {
		return d.look(op.Key)
	}
	for i := 0; i < len(op.Txn.Compares) && !d.tooLarge(); i++ {
		if err := d.look(op.Txn.Compares[i].Key); err != nil {
			return err
		}
	}
	for _, leaves := range [][]Op{op.Txn.Then, op.Txn.Else} {
		for i := 0; i < len(leaves) && !d.tooLarge(); i++ {
			if err := d.look(leaves[i].Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// look reads a key, once.
func (d *decision) look(key []byte) error {
	if d.at(key) != nil {
		return nil
	}
	t := touched{key: key}
	d.m.key = DataKey(d.m.key[:0], d.slot, key)
	raw, found, err := d.b.Get(d.m.key)
	if err != nil {
		return err
	}
	if found {
		v, err := DecodeValue(raw)
		if err != nil {
			return err
		}
		if d.read += len(v.Data); d.read > MaxTxnRead {
			return nil // it will be refused; see tooLarge
		}
		v.Data = bytes.Clone(v.Data)
		t.exists, t.value, t.stored = true, v, v.Expires
	}
	d.keys = append(d.keys, t)
	switch {
	case d.index != nil:
		d.index[string(key)] = len(d.keys) - 1
	case len(d.keys) > few:
		d.index = make(map[string]int, 2*len(d.keys))
		for i := range d.keys {
			d.index[string(d.keys[i].key)] = i
		}
	}
	return nil
}

// tooLarge reports whether more was found than may be held at once. A single value
// never is: it is within MaxValueBytes.
func (d *decision) tooLarge() bool { return d.read > MaxTxnRead }

// at returns a key that was looked up, or nil.
func (d *decision) at(key []byte) *touched {
	if d.index != nil {
		if i, ok := d.index[string(key)]; ok {
			return &d.keys[i]
		}
		return nil
	}
	for i := range d.keys {
		if bytes.Equal(d.keys[i].key, key) {
			return &d.keys[i]
		}
	}
	return nil
}

// expireDue applies the expiry of all keys that are due, under one version.
func (d *decision) expireDue() error {
	var version uint64
	for i := range d.keys {
		t := &d.keys[i]
		if !t.exists || !t.value.Due(d.m.position.ShardTime) {
			continue
		}
		if version == 0 {
			var err error
			if version, err = d.m.nextVersion(); err != nil {
				return err
			}
		}
		if err := d.m.expire(d.b, d.slot, t.key, t.stored, version); err != nil {
			return err
		}
		*t = touched{key: t.key}
	}
	return nil
}

// expire removes a key whose deadline has come.
func (m *Machine) expire(w Writer, slot shardmap.Slot, key []byte, deadline, version uint64) error {
	if err := m.unindex(w, slot, deadline, key); err != nil {
		return err
	}
	m.key = DataKey(m.key[:0], slot, key)
	m.changed(Change{Kind: ChangeExpire, Version: version, Key: key})
	return w.Delete(m.key)
}

func (m *Machine) unindex(w Writer, slot shardmap.Slot, deadline uint64, key []byte) error {
	m.key = DeadlineKey(m.key[:0], slot, deadline, key)
	return w.Delete(m.key)
}

// sweep applies the expiry that an entry of the index announces, unless the key
// was written again since; the entry goes in any case. One that is not due yet
// is left alone: never early.
func (m *Machine) sweep(b Batch, slot shardmap.Slot, op *Op) (Result, error) {
	if op.Deadline > m.position.ShardTime {
		return Result{Verdict: Applied}, nil
	}
	d := decision{m: m, b: b, slot: slot}
	if err := d.look(op.Key); err != nil {
		return Result{}, err
	}
	if t := &d.keys[0]; !t.exists || t.value.Expires != op.Deadline {
		return Result{Verdict: Applied}, m.unindex(b, slot, op.Deadline, op.Key)
	}
	version, err := m.nextVersion()
	if err != nil {
		return Result{}, err
	}
	return Result{Verdict: Applied, Version: version}, m.expire(b, slot, op.Key, op.Deadline, version)
}

// single decides about an operation that is no transaction.
func (d *decision) single(op *Op, res *Result) {
	t := d.at(op.Key)
	found, keyVersion := t.exists, t.value.Version
	if !op.holds(t) {
		res.Verdict = CondFailed
		res.Detail = &Detail{Found: found, KeyVersion: keyVersion}
		return
	}
	leaf, verdict := d.leaf(op, res.Version)
	res.Verdict = verdict
	switch {
	case op.Kind == OpAdd || op.Kind == OpExpire:
		res.Detail = &Detail{Found: found, KeyVersion: keyVersion, Number: leaf.Number}
	case leaf.Previous != nil:
		res.Detail = &Detail{Previous: leaf.Previous}
	}
}

// holds reports whether the operation's condition does.
func (o *Op) holds(t *touched) bool {
	switch o.Condition {
	case IfAbsent:
		return !t.exists
	case IfPresent:
		return t.exists
	case IfVersion:
		return t.exists && t.value.Version == o.IfVersion
	}
	return true
}

func (d *decision) txn(t *Txn, res *Result) {
	leaves, detail := t.Then, new(Detail)
	for i := range t.Compares {
		if c := &t.Compares[i]; !c.holds(d.at(c.Key)) {
			leaves, detail.Else = t.Else, true
			break
		}
	}
	res.Detail = detail
	if len(leaves) > 0 {
		detail.Leaves = make([]Leaf, len(leaves))
	}
	answered := 0
	for i := range leaves {
		var verdict Verdict
		if detail.Leaves[i], verdict = d.leaf(&leaves[i], res.Version); verdict != Applied {
			t := d.at(leaves[i].Key)
			res.Verdict, res.Detail = verdict, &Detail{Found: t.exists, KeyVersion: t.value.Version}
			return
		}
		if answered += detail.Leaves[i].bytes(); answered > MaxTxnRead {
			res.Verdict, res.Detail = TxnTooLarge, nil
			return
		}
	}
}

func (l *Leaf) bytes() int {
	n := len(l.Value.Data)
	if l.Previous != nil {
		n += len(l.Previous.Data)
	}
	return n
}

func (c *Compare) holds(t *touched) bool {
	version := t.value.Version
	if !t.exists {
		version = 0
	}
	switch c.Kind {
	case CompareAbsent:
		return !t.exists
	case ComparePresent:
		return t.exists
	case CompareVersionEqual:
		return version == c.Version
	case CompareVersionNotEqual:
		return version != c.Version
	case CompareVersionLess:
		return version < c.Version
	case CompareVersionGreater:
		return version > c.Version
	case CompareValueNotEqual:
		return !t.exists || !bytes.Equal(t.value.Data, c.Value)
	}
	if !t.exists {
		return false
	}
	order := bytes.Compare(t.value.Data, c.Value)
	return c.Kind == CompareValueEqual && order == 0 || c.Kind == CompareValueLess && order < 0 ||
		c.Kind == CompareValueGreater && order > 0
}

// leaf does what an operation does to its key, in memory.
func (d *decision) leaf(op *Op, version uint64) (Leaf, Verdict) {
	t := d.at(op.Key)
	leaf := Leaf{Found: t.exists}
	switch op.Kind {
	case OpGet:
		if t.exists {
			leaf.Value = t.value
		}
	case OpPut:
		leaf.keepPrevious(op, t)
		t.set(op.Value, d.m.deadline(op, t.value.Expires), version, ChangePut)
	case OpDelete:
		leaf.keepPrevious(op, t)
		t.exists, t.value, t.changed = false, Value{}, ChangeDelete
	case OpExpire:
		if t.exists {
			t.set(t.value.Data, d.m.deadline(op, 0), version, ChangeDeadline)
		}
	case OpAdd:
		sum, verdict := add(t, op.Delta)
		if verdict != Applied {
			return Leaf{}, verdict
		}
		leaf.Number = sum
		t.set(strconv.AppendInt(nil, sum, 10), t.value.Expires, version, ChangePut)
	}
	return leaf, Applied
}

func (l *Leaf) keepPrevious(op *Op, t *touched) {
	if op.Previous && t.exists {
		v := t.value
		l.Previous = &v
	}
}

func (t *touched) set(data []byte, expires, version uint64, kind ChangeKind) {
	t.exists, t.value = true, Value{Version: version, Expires: expires, Data: data}
	if kind == ChangePut || t.changed != ChangePut {
		t.changed = kind
	}
}

// deadline is the one that an operation gives its key, which has kept so far.
func (m *Machine) deadline(op *Op, kept uint64) uint64 {
	switch op.Expiry {
	case ExpireAfter:
		return min(m.position.ShardTime+op.TTL, MaxVersion)
	case KeepExpiry:
		return kept
	}
	return 0
}

// add is the sum of a stored number and delta. A number is what strconv writes:
// no plus sign, no leading zeros, no spaces.
func add(t *touched, delta int64) (int64, Verdict) {
	var n int64
	if t.exists {
		var err error
		n, err = parseNumber(t.value.Data)
		if err != nil {
			return 0, NotANumber
		}
	}
	if delta > 0 && n > math.MaxInt64-delta || delta < 0 && n < math.MinInt64-delta {
		return 0, Overflow
	}
	return n + delta, Applied
}

func parseNumber(b []byte) (int64, error) {
	if len(b) > maxNumberBytes {
		return 0, strconv.ErrRange
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err == nil && strconv.FormatInt(n, 10) != string(b) {
		err = strconv.ErrSyntax
	}
	return n, err
}

// write puts what the operation did into the batch, each key once.
func (d *decision) write(version uint64) error {
	m := d.m
	for i := range d.keys {
		t := &d.keys[i]
		if t.changed == 0 {
			continue
		}
		if t.stored != 0 && t.stored != t.value.Expires {
			if err := m.unindex(d.b, d.slot, t.stored, t.key); err != nil {
				return err
			}
		}
		if !t.exists {
			m.changed(Change{Kind: ChangeDelete, Version: version, Key: t.key})
			m.key = DataKey(m.key[:0], d.slot, t.key)
			if err := d.b.Delete(m.key); err != nil {
				return err
			}
			continue
		}
		c := Change{Kind: t.changed, Version: version, Expires: t.value.Expires, Key: t.key}
		if t.changed == ChangePut {
			c.Value = t.value.Data
		}
		m.changed(c)
		if err := m.set(d.b, d.slot, t.key, &t.value); err != nil {
			return err
		}
	}
	return nil
}
