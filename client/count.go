package client

import "context"

// Count returns how many of the chosen keys exist, without their values leaving the
// nodes. In all else it is like a Scan BySlot: of one snapshot per shard, each of its
// own time.
func (c *Client) Count(ctx context.Context, keys Keys, opts ...ScanOption) (uint64, error) {
	s, cancel, err := c.newScan(ctx, verbCount, keys, opts)
	if err != nil {
		return 0, err
	}
	defer cancel()
	if err := s.begin(); err != nil {
		return 0, err
	}
	err = s.inTurn(func(st *strand) error {
		for !st.done {
			n, err := st.receive(s.soon)
			if err != nil {
				return err
			}
			s.report.Items += n
		}
		return nil
	})
	return s.report.Items, err
}
