package kvserver

import (
	"github.com/ringfort/ringfort/raftstore"
)

// MaxValueCeiling is the largest MaxValueBytes that can be configured. A write
// travels whole through one log entry, and everything on that way (queues,
// caches, a follower's catch-up) is sized for entries of a few MiB.
const MaxValueCeiling = 8 << 20

const (
	// opOverhead is what an operation costs in memory beside its key and value:
	// the decoded message, its part of the batch, its answer.
	opOverhead = 512
	// frameSlack is room in a frame for everything beside one key and value.
	frameSlack = 64 << 10
	// frameTarget is the size at which a server frame is full: large enough to
	// amortise a send, small enough that a slow client takes it in time. One
	// answer always fits, so a frame has at most this and one value.
	frameTarget = 1 << 20
)

// Limits bound what clients may ask for and hold here. Zero means the default.
type Limits struct {
	// MaxKeyBytes bounds a key. Default 4096.
	MaxKeyBytes int
	// MaxValueBytes bounds a value. Default 1 MiB, at most MaxValueCeiling.
	MaxValueBytes int
	// MaxFrameBytes bounds a client's frame; gRPC enforces it (see the package
	// comment). Default 4 MiB, or what one operation of the largest size needs.
	MaxFrameBytes int
	// MaxOpsPerFrame is how many operations of a frame are served as one batch;
	// a longer frame is served in parts. Default 1024.
	MaxOpsPerFrame int
	// MaxInFlightOps and MaxInFlightBytes bound what one stream has in flight;
	// beyond them it is not read from. Bytes count requests until their groups
	// answered and answers until they were sent; a stream may so hold twice
	// MaxInFlightBytes for a moment. Of either, one shard may have as much with its
	// group as it leaves free, which is half when it is alone (see share). Defaults
	// 8192, and 16 MiB or two frames.
	MaxInFlightOps   int
	MaxInFlightBytes int
	// MaxHeldBytes bounds the same bytes for all streams and unary calls together.
	// A stream may hold an eighth of what is free, so it is felt before it is met;
	// at the bound callers are refused as Overloaded. Default 512 MiB, or two of
	// MaxInFlightBytes.
	MaxHeldBytes int64
	// MaxStreams and MaxUnary bound open streams and unary calls in progress,
	// forwarded ones included; beyond them callers are refused as Overloaded.
	// Defaults 1024 and 4096.
	MaxStreams int
	MaxUnary   int
	// MaxScans bounds the scans in progress; beyond them they are refused as
	// Overloaded. Default 64, which is how many views the store has.
	MaxScans int
	// MaxWatches bounds the watches likewise. Default 4096.
	MaxWatches int
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.MaxKeyBytes, 4096)
	setDefault(&l.MaxValueBytes, 1<<20)
	setDefault(&l.MaxFrameBytes, max(4<<20, l.largestOp()))
	setDefault(&l.MaxOpsPerFrame, 1024)
	setDefault(&l.MaxInFlightOps, max(8192, 2*l.MaxOpsPerFrame))
	setDefault(&l.MaxInFlightBytes, max(16<<20, 2*l.MaxFrameBytes))
	setDefault(&l.MaxHeldBytes, max(512<<20, 2*int64(l.MaxInFlightBytes)))
	setDefault(&l.MaxStreams, 1024)
	setDefault(&l.MaxUnary, 4096)
	setDefault(&l.MaxScans, 64)
	setDefault(&l.MaxWatches, 4096)
	return l
}

// largestOp is the size of a frame with one operation of the largest size.
func (l Limits) largestOp() int { return l.MaxKeyBytes + l.MaxValueBytes + frameSlack }

func (l Limits) validate(demand func(ok bool, format string, args ...any)) {
	for _, f := range []struct {
		name  string
		value int
	}{
		{"MaxKeyBytes", l.MaxKeyBytes}, {"MaxValueBytes", l.MaxValueBytes}, {"MaxFrameBytes", l.MaxFrameBytes},
		{"MaxOpsPerFrame", l.MaxOpsPerFrame}, {"MaxInFlightOps", l.MaxInFlightOps},
		{"MaxInFlightBytes", l.MaxInFlightBytes}, {"MaxStreams", l.MaxStreams}, {"MaxUnary", l.MaxUnary},
		{"MaxScans", l.MaxScans}, {"MaxWatches", l.MaxWatches},
	} {
		demand(f.value > 0, "%s must be above 0, not %d", f.name, f.value)
	}
	demand(l.MaxValueBytes <= MaxValueCeiling, "MaxValueBytes is %d; the ceiling is %d", l.MaxValueBytes, MaxValueCeiling)
	demand(l.MaxFrameBytes >= l.largestOp(),
		"MaxFrameBytes is %d; one operation of the largest key and value needs %d", l.MaxFrameBytes, l.largestOp())
	demand(l.MaxOpsPerFrame <= l.MaxInFlightOps,
		"MaxOpsPerFrame is %d, above MaxInFlightOps, %d", l.MaxOpsPerFrame, l.MaxInFlightOps)
	demand(l.MaxInFlightBytes >= l.MaxFrameBytes,
		"MaxInFlightBytes is %d, below MaxFrameBytes, %d", l.MaxInFlightBytes, l.MaxFrameBytes)
	demand(l.MaxHeldBytes >= int64(l.MaxInFlightBytes),
		"MaxHeldBytes is %d, below MaxInFlightBytes, %d", l.MaxHeldBytes, l.MaxInFlightBytes)
	// K2: whatever one frame writes to one shard must fit one Write.
	frame := l.MaxFrameBytes + l.MaxOpsPerFrame*opOverhead
	demand(frame <= raftstore.MaxWriteBytes,
		"a frame of MaxFrameBytes and MaxOpsPerFrame may need %d bytes in a log entry; at most %d fit",
		frame, raftstore.MaxWriteBytes)
}
