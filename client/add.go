package client

import "context"

// AddResult tells about an addition that was applied.
type AddResult struct {
	Value    int64  // the new number
	Version  uint64 // of the write
	Repeated bool   // an earlier try under the same id had been applied; this is its answer
}

// Add adds delta, which may be negative, to the number that a key holds, and
// returns the sum. Like every write it is applied once, however often it is
// sent. The value is the number in decimal, as a Put could have written it; a
// key that does not exist counts from 0. A deadline stays as it is.
//
// The error is ErrNotANumber when the value is no decimal 64-bit number, and
// ErrOverflow when the sum would not be one; the key is then unchanged.
func (c *Client) Add(ctx context.Context, key string, delta int64, opts ...WriteOption) (AddResult, error) {
	d := c.driver()
	defer c.release(d)
	one := d.write(verbAdd, key, nil, opts)
	one.delta = delta
	d.run(ctx)
	if one.err != nil {
		return AddResult{}, one.err
	}
	a := one.answer
	return AddResult{Value: a.GetCounter(), Version: a.GetVersion(), Repeated: a.GetRepeated()}, nil
}
