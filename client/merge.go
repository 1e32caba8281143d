package client

import (
	"cmp"
	"container/heap"
)

// merge gives out the items of all strands by key.
func (s *scan) merge(yield func(Item, error) bool) error {
	if err := s.begin(); err != nil {
		return err
	}
	h := &heads{reverse: s.reverse}
	for {
		// Also those that split off from others in the meantime.
		for len(s.todo) > 0 {
			st := s.todo[0]
			s.todo = s.todo[1:]
			if ok, err := st.next(s.soon); err != nil {
				return err
			} else if ok {
				heap.Push(h, st)
			}
		}
		if h.Len() == 0 {
			return nil
		}
		st := h.strands[0]
		if err := s.give(st.take(), yield); err != nil {
			return err
		}
		switch ok, err := st.next(s.soon); {
		case err != nil:
			return err
		case ok:
			heap.Fix(h, 0)
		default:
			heap.Pop(h)
		}
	}
}

// heads is a heap of strands, each with an item to take, by that item's key.
type heads struct {
	strands []*strand
	reverse bool
}

func (h *heads) Len() int { return len(h.strands) }

func (h *heads) Less(i, j int) bool {
	by := cmp.Compare(string(h.strands[i].items[0].GetKey()), string(h.strands[j].items[0].GetKey()))
	if h.reverse {
		return by > 0
	}
	return by < 0
}

func (h *heads) Swap(i, j int) { h.strands[i], h.strands[j] = h.strands[j], h.strands[i] }

func (h *heads) Push(x any) { h.strands = append(h.strands, x.(*strand)) }

func (h *heads) Pop() any {
	last := len(h.strands) - 1
	st := h.strands[last]
	h.strands[last] = nil
	h.strands = h.strands[:last]
	return st
}
