package logstore

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestStableStoreAnswersLikeRaftExpects(t *testing.T) {
	g := openDisk(t, vfs.NewMem()).Group(1)
	if v := currentTerm(t, g); v != 0 {
		t.Errorf("current term of a blank group: %d", v)
	}
	candidate, err := g.Get([]byte(keyLastVoteCand))
	if err != nil || candidate != nil { // raft compares with nil
		t.Errorf("vote of a blank group: %q, %v", candidate, err)
	}
	if g.db.Info(1).Exists {
		t.Error("reading made the group exist")
	}
	for name, err := range map[string]error{
		"set":        g.Set([]byte("other"), nil),
		"set uint64": g.SetUint64([]byte("other"), 1),
	} {
		if err == nil {
			t.Errorf("%s of an unknown key was accepted", name)
		}
	}
}

func TestTermsAreDurableAndNeverFall(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := d.Group(1)
	setTerm(t, g, 6)
	if got := currentTerm(t, openDisk(t, crashed(fs)).Group(1)); got != 6 {
		t.Errorf("after a crash the term is %d", got)
	}
	before := d.Stats().Syncs
	setTerm(t, g, 6) // NewRaft does
	if d.Stats().Syncs != before {
		t.Error("an equal term was written again")
	}
	if err := g.SetUint64([]byte(keyCurrentTerm), 5); err == nil {
		t.Error("the term fell")
	}
	if got := currentTerm(t, g); got != 6 {
		t.Errorf("the term is %d after a refusal", got)
	}
}

// Raft writes a vote as two calls. A crash between them must leave the old vote
// whole: the new term beside the old candidate is a grant to that candidate, in
// a term where it never asked and without a look at its log.
func TestS3_CrashBetweenTheTwoVoteWrites(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 1)
	setTerm(t, g, 6)
	must(t, castVote(g, 6, "a"))
	setTerm(t, g, 7)
	must(t, g.SetUint64([]byte(keyLastVoteTerm), 7))
	between := crashed(fs)
	must(t, g.Set([]byte(keyLastVoteCand), []byte("b")))
	after := crashed(fs)

	if term, cand := lastVote(t, openDisk(t, between).Group(1)); term != 6 || cand != "a" {
		t.Errorf("between the writes: voted in term %d for %q", term, cand)
	}
	if term, cand := lastVote(t, openDisk(t, after).Group(1)); term != 7 || cand != "b" {
		t.Errorf("after both: voted in term %d for %q", term, cand)
	}
}

func TestS3_VoteIsOneSync(t *testing.T) {
	d := openDisk(t, vfs.NewMem())
	g := born(t, d, 1)
	before := d.Stats().Syncs
	must(t, castVote(g, 5, "a"))
	if n := d.Stats().Syncs - before; n != 1 {
		t.Errorf("a vote took %d syncs", n)
	}
}

func TestS3_VoteRefusals(t *testing.T) {
	for name, vote := range map[string]func(*Group) error{
		"second candidate in a term": func(g *Group) error { return castVote(g, 6, "b") },
		"older term":                 func(g *Group) error { return castVote(g, 5, "a") },
		"term not begun":             func(g *Group) error { return castVote(g, 8, "a") },
		"candidate without a term":   func(g *Group) error { return g.Set([]byte(keyLastVoteCand), []byte("a")) },
	} {
		g := born(t, openDisk(t, vfs.NewMem()), 1)
		setTerm(t, g, 7)
		must(t, castVote(g, 6, "a"))
		if vote(g) == nil {
			t.Errorf("%s: accepted", name)
		}
		if term, cand := lastVote(t, g); term != 6 || cand != "a" {
			t.Errorf("%s: voted in term %d for %q", name, term, cand)
		}
		must(t, castVote(g, 6, "a")) // the same again is no second vote
	}
}
