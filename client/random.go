package client

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// random is the client's generator: ChaCha8 under a seed that was read once, so
// that nothing later can fail for want of entropy.
type random struct {
	mu  sync.Mutex
	src *rand.ChaCha8
}

func newRandom(r io.Reader) (*random, error) {
	var seed [32]byte
	if _, err := io.ReadFull(r, seed[:]); err != nil {
		return nil, &Error{Op: "open", Kind: ErrInternal, Err: fmt.Errorf("reading random bytes: %w", err)}
	}
	return &random{src: rand.NewChaCha8(seed)}, nil
}

// clientID draws the random half of request identities.
func (r *random) clientID() (id [16]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	binary.LittleEndian.PutUint64(id[:8], r.src.Uint64())
	binary.LittleEndian.PutUint64(id[8:], r.src.Uint64())
	return id
}

// below draws from [0, n).
func (r *random) below(n uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.src.Uint64() % n
}

// backoff is the wait after the given number of failures (from 0): doubling
// from first to last, then somewhere in its upper half, so that callers who
// failed together do not return together.
func (r *random) backoff(failures int, first, last time.Duration) time.Duration {
	d := last
	if failures < 16 {
		d = min(first<<failures, last)
	}
	return d/2 + time.Duration(r.below(uint64(d/2)+1))
}
