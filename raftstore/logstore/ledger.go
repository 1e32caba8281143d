package logstore

import (
	"cmp"
	"slices"
)

// ledger knows how many bytes of a group's log lie after an index: exactly at
// some indexes, by interpolation between them. It is in memory only; after a
// restart one estimate covers the log that was found.
//
// Points are about 1/256 of the log apart, so their number grows with the
// logarithm of the log's size and a cut is never off by more than that share.
type ledger struct {
	points []point // the first is the boundary, the last the end of the log
	// estimated: up to this index the points say how many bytes the database
	// takes, and entries between them may be of any size.
	estimated uint64
}

// point: the entries up to and with index took at bytes.
type point struct {
	index uint64
	at    int64
}

const (
	minPointDistance = 1 << 10
	pointShare       = 256
)

// reset is an empty log at a boundary.
func (l *ledger) reset(boundary uint64) {
	l.points = append(l.points[:0], point{index: boundary}, point{index: boundary})
	l.estimated = 0
}

// restore is a log found at start.
func (l *ledger) restore(boundary, last uint64, bytes int64) {
	l.reset(boundary)
	if last > boundary {
		l.points[1] = point{last, bytes}
		l.estimated = last
	}
}

func (l *ledger) end() *point { return &l.points[len(l.points)-1] }

func (l *ledger) bytes() int64 {
	if len(l.points) == 0 {
		return 0
	}
	return l.end().at - l.points[0].at
}

// add appends an entry. The end becomes a point that stays when it is far enough
// from the one before it.
func (l *ledger) add(index uint64, size int) {
	end, before := *l.end(), l.points[len(l.points)-2]
	if end.at-before.at >= max(minPointDistance, l.bytes()/pointShare) {
		l.points = append(l.points, end)
	}
	*l.end() = point{index, end.at + int64(size)}
}

// at is the position of an index from the boundary to the end.
func (l *ledger) at(index uint64) int64 {
	i, found := slices.BinarySearchFunc(l.points, index, func(p point, index uint64) int { return cmp.Compare(p.index, index) })
	switch {
	case found:
		return l.points[i].at
	case i == 0:
		return l.points[0].at
	case i == len(l.points):
		return l.end().at
	}
	p, q := l.points[i-1], l.points[i]
	share := float64(index-p.index) / float64(q.index-p.index)
	return p.at + int64(share*float64(q.at-p.at))
}

// after is how many bytes lie after an index.
func (l *ledger) after(index uint64) int64 {
	if len(l.points) == 0 {
		return 0
	}
	return l.end().at - l.at(index)
}

// cutEnd makes last the log's end.
func (l *ledger) cutEnd(last uint64) {
	end := point{last, l.at(last)}
	keep := len(l.points) - 1
	for keep > 1 && l.points[keep-1].index >= last {
		keep--
	}
	l.points = append(l.points[:keep], end)
	l.estimated = min(l.estimated, last)
}

// cutBeginning makes boundary the log's beginning.
func (l *ledger) cutBeginning(boundary uint64) {
	begin := point{boundary, l.at(boundary)}
	i := 1
	for i < len(l.points)-1 && l.points[i].index <= boundary {
		i++
	}
	l.points = slices.Delete(l.points, 0, i-1)
	l.points[0] = begin
}

// cutPoint is the highest index known to have at least keep bytes after it, or
// the boundary when there is none. Where only an estimate is known, it is one.
func (l *ledger) cutPoint(keep int64) uint64 {
	switch {
	case len(l.points) == 0:
		return 0
	case keep <= 0:
		return l.end().index
	}
	limit := l.end().at - keep
	i := len(l.points) - 1
	for i >= 0 && l.points[i].at > limit {
		i--
	}
	if i < 0 {
		return l.points[0].index
	}
	p := l.points[i]
	if i+1 < len(l.points) && l.points[i+1].index <= l.estimated {
		q := l.points[i+1]
		share := float64(limit-p.at) / float64(q.at-p.at)
		return min(p.index+uint64(share*float64(q.index-p.index)), q.index-1)
	}
	return p.index
}
