package diskspace

// Level is how much a node may still take on.
type Level int32

// The levels.
const (
	OK       Level = iota
	Low            // no new data of clients
	Critical       // nothing that can be refused
)

// String names the level.
func (l Level) String() string {
	switch l {
	case OK:
		return "ok"
	case Low:
		return "low"
	case Critical:
		return "critical"
	}
	return "unknown"
}

const (
	mib = 1 << 20
	gib = 1 << 30

	lowestLow      = 16 * mib // less would not outlast a second of writing
	highestLow     = 4 * gib  // more would waste large disks
	lowShare       = 20       // of the disk: 5 %
	ballastShare   = 100      // of the disk: 1 %
	largestBallast = 256 * mib
	hysteresis     = 4 // a level ends a quarter of its bound above it
)

// limits are the bounds of one disk.
type limits struct {
	low, critical, reserve uint64
	ballast                uint64
}

// limitsFor chooses the bounds for a disk of this size. low and ballast are what
// was asked for; low 0 and ballast 0 mean a share of the disk, negative is none.
func limitsFor(total uint64, low, ballast int64) limits {
	var l limits
	switch {
	case ballast > 0:
		l.ballast = uint64(ballast)
	case ballast == 0:
		l.ballast = min(total/ballastShare, largestBallast)
	}
	switch {
	case low > 0:
		l.low = uint64(low)
	case low == 0:
		l.low = min(max(total/lowShare, lowestLow), highestLow, total/4)
	}
	l.critical = l.low / 2
	l.reserve = l.low / 4
	return l
}

// levelAt is the level for so much free space, coming from level was.
func (l limits) levelAt(free uint64, was Level) Level {
	below := func(bound uint64, since Level) bool {
		if was >= since {
			bound += bound / hysteresis
		}
		return free < bound
	}
	switch {
	case below(l.critical, Critical):
		return Critical
	case below(l.low, Low):
		return Low
	}
	return OK
}

// roomy reports whether the ballast can be made without a level being near.
func (l limits) roomy(avail uint64) bool { return avail >= l.low+l.low/hysteresis+l.ballast }
