package client

import (
	"context"

	"github.com/ringfort/ringfort/shardmap"
)

// deleteStep is how many keys DeleteRange removes at a time.
const deleteStep = 512

// DeleteProgress is how far a DeleteRange has come.
type DeleteProgress struct {
	Deleted  uint64  // keys so far
	Fraction float64 // of the slots, from 0 to 1
}

// DeleteRange removes the chosen keys, by a scan in the order of slots and deletes
// in steps of some hundred keys. It is no transaction: others see it happen, keys
// that are written meanwhile may or may not survive, and an error leaves the rest
// where it is, so it may be repeated. After each step progress is called, unless it
// is nil, in the caller's goroutine.
//
// It returns how many keys were found and deleted. A delete whose outcome is unknown
// ends it with ErrInDoubt, as of any write.
func (c *Client) DeleteRange(ctx context.Context, keys Keys, progress func(DeleteProgress)) (uint64, error) {
	s, cancel, err := c.newScan(ctx, verbDeleteRange, keys, nil)
	if err != nil {
		return 0, err
	}
	defer cancel()
	s.keysOnly = true
	var deleted uint64
	step := make([]string, 0, deleteStep)
	flush := func(behind shardmap.Slot) error {
		if len(step) > 0 {
			results, err := c.DeleteMany(ctx, step)
			for i := range results {
				if results[i].Err == nil {
					deleted++
				}
			}
			if err != nil {
				return err
			}
			step = step[:0]
		}
		if progress != nil {
			arc := keys.arc()
			progress(DeleteProgress{Deleted: deleted, Fraction: float64(behind-arc.From) / float64(arc.Len())})
		}
		return nil
	}
	err = s.inTurn(func(st *strand) error {
		for {
			ok, err := st.next(s.soon)
			if err != nil {
				return err
			}
			if !ok {
				return nil
			}
			step = append(step, st.take().Key)
			if len(step) == deleteStep {
				if err := flush(shardmap.SlotOf([]byte(step[len(step)-1]))); err != nil {
					return err
				}
			}
		}
	})
	if err == nil {
		err = flush(keys.arc().To)
	}
	return deleted, err
}
