package state

import "time"

// Hard limits of what an entry may hold. A node may set lower ones for its
// clients; these are what every replica enforces on decode, so they can only be
// raised together with the entry format.
const (
	MaxKeyBytes   = 4 << 10  // of one key; the shortest has 1 byte
	MaxValueBytes = 8 << 20  // of one value; may be empty
	MaxEntryBytes = 16 << 20 // of one encoded entry
	MaxEntryOps   = 1 << 16  // of one entry; more than fit into 256 KiB
)

// MaxTxnOps is how many compares and leaves a transaction may have, those of both
// branches counted.
const MaxTxnOps = 1024

// MaxTxnRead bounds the values that a transaction may find under its keys, and those
// that it may be answered with, in bytes: all are in memory at once.
const MaxTxnRead = 8 << 20

// MaxTTL is the longest time to live.
const MaxTTL = 100 * 365 * 24 * time.Hour

const maxTTLMicros = uint64(MaxTTL / time.Microsecond)

// maxNumberBytes is the length of the longest number in decimal.
const maxNumberBytes = 20

// MaxVersion is the highest version and the highest shard time, in µs since
// 1970: the largest integer that survives JSON, good until the year 2255.
const MaxVersion uint64 = 1<<53 - 1

// MaxRequestAhead is how far ahead of shard time a request's not-after may lie.
// It bounds how long a record can be needed.
const MaxRequestAhead = 10 * time.Minute

const maxRequestAheadMicros = uint64(MaxRequestAhead / time.Microsecond)

// Bounds of the request table. At each of them the operation is answered
// TableFull and is not applied. The bound per client keeps one client that
// never closes its numbers from taking the whole table.
//
// They decide what is applied, as MaxRequestAhead does: replicas of one group
// that differ in them diverge, so changing one takes a new entry format.
const (
	MaxRecordsPerShard  = 1 << 18
	MaxRecordsPerClient = 1 << 16
	MaxClients          = 1 << 16
	// Of the details kept with answers, in bytes. An operation that may have one
	// is refused while they are at the bound.
	MaxDetailPerShard  = 16 << 20
	MaxDetailPerClient = 4 << 20
	// maxDetail is how much of one answer's detail is kept: values of 4 KiB and
	// what stands around them.
	maxDetail = 5 << 10
)

// Bounds of small things on disk, so that a damaged length cannot allocate.
const (
	maxReplicas           = 64
	maxNodeIDBytes        = 64
	maxConfigurationBytes = 1 << 20
)
