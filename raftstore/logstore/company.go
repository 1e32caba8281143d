package logstore

import "time"

// company knows whom a sync may wait for. Groups write one thing at a time and
// wait for it, so under load those of the last two commits are on their way
// back; without waiting they would settle into two halves that take turns and
// pay two syncs for each write.
type company struct {
	commits uint64    // number of the last commit
	size    int       // groups in it
	recent  int       // groups in the last two
	until   time.Time // when they are forgotten
}

// patience: after a pause of so many pacings the groups are taken for idle, and
// a lone write does not wait for them.
const patience = 4

// expected is how many groups a batch begun at that time should have.
func (c *company) expected(begun time.Time) int {
	if begun.After(c.until) {
		c.size, c.recent = 0, 0
		c.commits++ // no group was in this one
	}
	return c.recent
}

// committed notes a commit of these requests, just synced.
func (c *company) committed(taken []*request, pacing time.Duration) {
	both := 0
	for _, r := range taken {
		if r.group == nil {
			continue
		}
		if r.group.committed == c.commits {
			both++
		}
		r.group.committed = c.commits + 1
	}
	c.commits++
	c.recent = len(taken) + c.size - both
	c.size = len(taken)
	c.until = time.Now().Add(patience * pacing)
}
