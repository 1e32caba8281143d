package state

// Reader reads one consistent view of the store: a snapshot, an iterator's view
// or, before a group starts, the store itself.
type Reader interface {
	// Get returns the value of a key. The slice is valid until the next call.
	Get(key []byte) (value []byte, found bool, err error)
	// Scan calls fn for every key in [from, to) in rising order. The slices are
	// valid until fn returns. An error of fn ends the scan and is returned.
	Scan(from, to []byte, fn func(key, value []byte) error) error
}

// Batch is a Writer that also reads: the store as it will be when the batch is
// committed.
type Batch interface {
	Writer
	// Get returns the value of a key. The slice is valid until the next call.
	Get(key []byte) (value []byte, found bool, err error)
}

// Writer collects the effects of a batch that is committed atomically or not at
// all. It copies what it is given: the slices are reused after the call.
type Writer interface {
	Set(key, value []byte) error
	Delete(key []byte) error
}
