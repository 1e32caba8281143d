package state

import (
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// Validate reports why an operation could never be applied, of kind Invalid or
// CrossSlot: an unknown kind, a key or value out of bounds, a field that the kind
// has no use for. The proposer asks before it encodes; see Entry.AppendTo.
func (o *Op) Validate() error {
	if err := checkKey(o.Key); err != nil {
		return err
	}
	switch o.Kind {
	case OpVerify:
		if len(o.Key) != len(VerifyID{}) || o.Request.Number != 0 {
			return kverr.New(kverr.Invalid, "a verification has an id of %d bytes and no request", len(VerifyID{}))
		}
	case OpSweep:
		if o.Deadline == 0 || o.Deadline > MaxVersion || o.Request.Number != 0 {
			return kverr.New(kverr.Invalid, "a sweep has a deadline and no request")
		}
	case OpTxn:
		if err := o.Txn.validate(o.Key); err != nil {
			return err
		}
	case OpGet:
		return kverr.New(kverr.Invalid, "a get is an operation of transactions only")
	}
	return o.validateFields()
}

// validateFields is what operations and leaves have in common.
func (o *Op) validateFields() error {
	put, del := o.Kind == OpPut, o.Kind == OpDelete
	switch {
	case o.Kind == 0 || o.Kind > OpSweep:
		return kverr.New(kverr.Invalid, "unknown operation %d", o.Kind)
	case !put && len(o.Value) != 0:
		return kverr.New(kverr.Invalid, "operation %d carries a value", o.Kind)
	case len(o.Value) > MaxValueBytes:
		return kverr.New(kverr.Invalid, "value of %d bytes is over the limit of %d", len(o.Value), MaxValueBytes)
	case o.Condition > IfVersion || o.Condition != Always && !put && !del:
		return kverr.New(kverr.Invalid, "operation %d with condition %d", o.Kind, o.Condition)
	case o.Previous && !put && !del:
		return kverr.New(kverr.Invalid, "operation %d has no previous value", o.Kind)
	case (o.Condition == IfVersion) != (o.IfVersion != 0) || o.IfVersion > MaxVersion:
		return kverr.New(kverr.Invalid, "condition %d names version %d", o.Condition, o.IfVersion)
	case o.Expiry > ExpireAfter || o.Expiry != NoExpiry && !put && o.Kind != OpExpire ||
		o.Expiry == KeepExpiry && !put:
		return kverr.New(kverr.Invalid, "operation %d with expiry %d", o.Kind, o.Expiry)
	case (o.Expiry == ExpireAfter) != (o.TTL != 0) || o.TTL > maxTTLMicros:
		return kverr.New(kverr.Invalid, "time to live of %d µs with expiry %d; it is at most %v", o.TTL, o.Expiry, MaxTTL)
	case o.Delta != 0 && o.Kind != OpAdd, o.Deadline != 0 && o.Kind != OpSweep, (o.Txn != nil) != (o.Kind == OpTxn):
		return kverr.New(kverr.Invalid, "operation %d carries what is another's", o.Kind)
	}
	return nil
}

func (t *Txn) validate(key []byte) error {
	if t == nil {
		return kverr.New(kverr.Invalid, "a transaction without content")
	}
	n := len(t.Compares) + len(t.Then) + len(t.Else)
	if n == 0 || n > MaxTxnOps {
		return kverr.New(kverr.Invalid, "a transaction has 1 to %d compares and leaves, not %d", MaxTxnOps, n)
	}
	slot := shardmap.SlotOf(key)
	for i := range t.Compares {
		if err := t.Compares[i].validate(); err != nil {
			return err
		}
		if err := sameSlot(slot, key, t.Compares[i].Key); err != nil {
			return err
		}
	}
	for _, leaves := range [][]Op{t.Then, t.Else} {
		for i := range leaves {
			if err := leaves[i].validateLeaf(); err != nil {
				return err
			}
			if err := sameSlot(slot, key, leaves[i].Key); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *Op) validateLeaf() error {
	switch {
	case o.Kind == OpVerify || o.Kind == OpSweep || o.Kind == OpTxn:
		return kverr.New(kverr.Invalid, "operation %d cannot be part of a transaction", o.Kind)
	case o.Condition != Always:
		return kverr.New(kverr.Invalid, "a leaf of a transaction has no condition: use a compare")
	case o.Request != (RequestID{}):
		return kverr.New(kverr.Invalid, "a leaf of a transaction has no request of its own")
	}
	if err := checkKey(o.Key); err != nil {
		return err
	}
	return o.validateFields()
}

func (c *Compare) validate() error {
	switch {
	case c.Kind == 0 || c.Kind > CompareValueGreater:
		return kverr.New(kverr.Invalid, "unknown compare %d", c.Kind)
	case c.Version != 0 && !c.Kind.ofVersion() || c.Version > MaxVersion:
		return kverr.New(kverr.Invalid, "compare %d with version %d", c.Kind, c.Version)
	case len(c.Value) != 0 && !c.Kind.ofValue() || len(c.Value) > MaxValueBytes:
		return kverr.New(kverr.Invalid, "compare %d with a value of %d bytes", c.Kind, len(c.Value))
	}
	return checkKey(c.Key)
}

func (k CompareKind) ofVersion() bool { return k >= CompareVersionEqual && k <= CompareVersionGreater }
func (k CompareKind) ofValue() bool   { return k >= CompareValueEqual && k <= CompareValueGreater }

func checkKey(key []byte) error {
	if len(key) == 0 {
		return kverr.New(kverr.Invalid, "key is empty")
	}
	if len(key) > MaxKeyBytes {
		return kverr.New(kverr.Invalid, "key of %d bytes is over the limit of %d", len(key), MaxKeyBytes)
	}
	return nil
}

func sameSlot(slot shardmap.Slot, key, other []byte) error {
	if o := shardmap.SlotOf(other); o != slot {
		return kverr.New(kverr.CrossSlot, "keys %.64q (slot %d) and %.64q (slot %d) do not share a slot; "+
			"give them one hash tag, as in {tag}key", key, slot, other, o)
	}
	return nil
}
