package snapshot

import (
	"context"

	"golang.org/x/time/rate"
)

// DefaultRate is what a node sends of snapshots, in bytes per second: enough to
// fill a small shard's replica in seconds, and half of a gigabit line.
const DefaultRate = 64 << 20

// Limiter bounds the bytes per second of all transfers that share it. Nil does
// not limit. Safe for concurrent use.
type Limiter struct {
	tokens *rate.Limiter
	piece  int
}

// NewLimiter returns a limiter, or nil when bytesPerSecond is 0.
func NewLimiter(bytesPerSecond int64) *Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	// Slow transfers go in smaller pieces, so that the receiver hears of them
	// several times a second.
	piece := int(min(max(bytesPerSecond/8, 1<<10), maxPiece))
	return &Limiter{rate.NewLimiter(rate.Limit(bytesPerSecond), piece), piece}
}

// pieceBytes is the largest piece that wait takes.
func (l *Limiter) pieceBytes() int {
	if l == nil {
		return maxPiece
	}
	return l.piece
}

// wait lets n bytes pass.
func (l *Limiter) wait(ctx context.Context, n int) error {
	if l == nil {
		return ctx.Err()
	}
	return l.tokens.WaitN(ctx, n)
}
