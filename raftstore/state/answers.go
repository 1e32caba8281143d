package state

import (
	"slices"
	"sort"
)

// answer is what the table remembers of one applied operation.
type answer struct {
	number  uint64
	version uint64
	detail  string // see Result.keep
	page    *page  // that recorded it
}

// answers is a client's open records, sorted by number. Numbers arrive almost in
// order and close from below, so the common operations touch only the ends; but
// nothing forces a client to be orderly, and a plain sorted slice would move up
// to MaxRecordsPerClient records to insert one. Cut into runs, an insert moves
// no more than one run and the list of runs.
type answers struct {
	runs   [][]answer // none empty; sorted, also from run to run
	count  int
	detail int // bytes of all details
}

const maxRun = 128

// locate returns the run and the position where number is or belongs, which must
// not be above every number held.
func (s *answers) locate(number uint64) (run, at int) {
	run = sort.Search(len(s.runs), func(i int) bool {
		r := s.runs[i]
		return r[len(r)-1].number >= number
	})
	r := s.runs[run]
	return run, sort.Search(len(r), func(i int) bool { return r[i].number >= number })
}

// above reports whether number is higher than every number held.
func (s *answers) above(number uint64) bool {
	if len(s.runs) == 0 {
		return true
	}
	last := s.runs[len(s.runs)-1]
	return number > last[len(last)-1].number
}

func (s *answers) find(number uint64) (answer, bool) {
	if s.above(number) {
		return answer{}, false
	}
	run, at := s.locate(number)
	a := s.runs[run][at]
	return a, a.number == number
}

// insert adds an answer whose number is not held.
func (s *answers) insert(a answer) {
	s.count++
	s.detail += len(a.detail)
	if s.above(a.number) {
		n := len(s.runs)
		if n == 0 || len(s.runs[n-1]) >= maxRun {
			s.runs = append(s.runs, []answer{a})
			return
		}
		s.runs[n-1] = append(s.runs[n-1], a)
		return
	}
	run, at := s.locate(a.number)
	r := slices.Insert(s.runs[run], at, a)
	s.runs[run] = r
	if len(r) > maxRun {
		half := len(r) / 2
		s.runs[run] = r[:half:half]
		s.runs = slices.Insert(s.runs, run+1, slices.Clone(r[half:]))
	}
}

// remove takes a number out; ok is false when it was not held.
func (s *answers) remove(number uint64) (a answer, ok bool) {
	if s.above(number) {
		return answer{}, false
	}
	run, at := s.locate(number)
	if a = s.runs[run][at]; a.number != number {
		return answer{}, false
	}
	s.count--
	s.detail -= len(a.detail)
	if len(s.runs[run]) == 1 {
		s.runs = slices.Delete(s.runs, run, run+1)
	} else {
		s.runs[run] = slices.Delete(s.runs[run], at, at+1)
	}
	return a, true
}

// popBelow takes out the lowest number if it is below limit.
func (s *answers) popBelow(limit uint64) (a answer, ok bool) {
	if len(s.runs) == 0 || s.runs[0][0].number >= limit {
		return answer{}, false
	}
	s.count--
	a = s.runs[0][0]
	s.detail -= len(a.detail)
	s.runs[0][0] = answer{} // the run may live on; page and detail should not with it
	if s.runs[0] = s.runs[0][1:]; len(s.runs[0]) == 0 {
		s.runs[0] = nil
		s.runs = s.runs[1:]
	}
	return a, true
}
