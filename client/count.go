package client

import "context"

// countAhead is how many shards count ahead of the one whose turn it is. Nodes
// bound how many scans they serve.
const countAhead = 4

// Count returns how many of the chosen keys exist, without their values leaving the
// nodes. In all else it is like a Scan BySlot: of one snapshot per shard, each of its
// own time.
func (c *Client) Count(ctx context.Context, keys Keys, opts ...ScanOption) (uint64, error) {
	s, cancel, err := c.newScan(ctx, verbCount, keys, opts)
	if err != nil {
		return 0, err
	}
	defer cancel()
	err = s.inTurn(func(st *strand) error {
		// Some shards ahead, so that they count at the same time.
		for i := 0; i < min(countAhead, len(s.todo)); i++ {
			if s.todo[i].stream == nil {
				if err := s.todo[i].open(s.behind(i)); err != nil {
					return err
				}
			}
		}
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
