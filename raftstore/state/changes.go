package state

// ChangeKind says what happened to a key.
type ChangeKind uint8

// The kinds of change; numbers are those of kv.v1.ChangeKind.
const (
	ChangePut ChangeKind = 1
	// ChangeDelete is also that of a key which did not exist: a plain delete
	// reads nothing.
	ChangeDelete ChangeKind = 2
	ChangeExpire ChangeKind = 3
	// ChangeDeadline: the deadline was set or removed, the value is the same.
	ChangeDeadline ChangeKind = 4
)

// Change is what one applied write did to one key. All changes of an atomic
// group have the same version.
type Change struct {
	Kind    ChangeKind
	Version uint64
	Expires uint64 // of a put or deadline: shard time in µs, 0 for never
	Key     []byte
	Value   []byte // of a put
}

// Changes are the changes of the last entry applied, in the order of their
// versions. The slice is the caller's until the next entry is applied. Keys and
// values alias the entry's data or memory that nobody else has: who keeps them
// keeps the data.
func (m *Machine) Changes() []Change { return m.changes }

func (m *Machine) changed(c Change) { m.changes = append(m.changes, c) }
