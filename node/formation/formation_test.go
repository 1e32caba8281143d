package formation

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/ringfort/ringfort/internal/kverr"
	_ "github.com/ringfort/ringfort/internal/racebubble"
	"github.com/ringfort/ringfort/shardmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var rf3 = Request{Shards: 4, ReplicationFactor: 3}

func (w *world) wantFormed(cluster string) {
	w.t.Helper()
	w.check()
	for _, n := range w.nodes {
		if n.plan == nil || n.cluster != cluster {
			w.t.Errorf("%s: cluster %q, want %q", n.node.Name, n.cluster, cluster)
			continue
		}
		inRecord := false
		for _, r := range n.plan.GetSystem().GetReplicas() {
			inRecord = inRecord || r.GetNodeId() == string(n.node.ID)
		}
		if inRecord != (n.born > 0) {
			w.t.Errorf("%s: in the system record %v, born %d times", n.node.Name, inRecord, n.born)
		}
	}
}

func TestF1FormsAndRepeatsWithoutHarm(t *testing.T) {
	w := newWorld(t, 5)
	out, err := Form(t.Context(), rf3, &coordinator{w: w, calls: -1}, draw("a"))
	if err != nil || out.Resumed || out.Nothing {
		t.Fatalf("%+v, %v", out, err)
	}
	w.wantFormed("a-1")
	if got := len(out.Plan.GetSystem().GetReplicas()); got != 3 {
		t.Fatalf("%d system replicas", got)
	}
	again, err := Form(t.Context(), rf3, &coordinator{w: w, calls: -1}, draw("b"))
	if err != nil || !again.Nothing || again.Plan.GetClusterId() != "a-1" {
		t.Fatalf("%+v, %v", again, err)
	}
	// A node of the plan that is down now does not change that.
	w.nodes[4].down = true
	again, err = Form(t.Context(), rf3, &coordinator{w: w, calls: -1}, draw("b"))
	if err != nil || !again.Nothing {
		t.Fatalf("%+v, %v", again, err)
	}
}

// The coordinator dies after each possible call; another finishes its plan, or
// makes one of its own when nothing was stored yet.
func TestF1InterruptedAtEveryStepIsFinished(t *testing.T) {
	for after := 0; ; after++ {
		w := newWorld(t, 4)
		_, err := Form(t.Context(), rf3, &coordinator{w: w, calls: after}, draw("a"))
		if err == nil {
			if after < 13 { // 4 held, 1 + 4 accepted, 4 started
				t.Fatalf("done after %d calls", after)
			}
			return
		}
		if kverr.KindOf(err) != kverr.Unavailable {
			t.Fatalf("after %d calls: %v", after, err)
		}
		anyPlan := false
		for _, n := range w.nodes {
			anyPlan = anyPlan || n.plan != nil
			n.boot() // they restart too
		}
		out, err := Form(t.Context(), rf3, &coordinator{w: w, calls: -1}, draw("b"))
		if err != nil || out.Resumed != anyPlan {
			t.Fatalf("after %d calls: %+v, %v", after, out, err)
		}
		w.wantFormed(map[bool]string{true: "a-1", false: "b-1"}[anyPlan])
	}
}

// A member that dies between its replica's birth and its own membership is
// started again.
func TestF1MemberCrashInsideStart(t *testing.T) {
	w := newWorld(t, 3)
	w.nodes[1].failCluster, w.nodes[2].failBorn = true, true
	if _, err := Form(t.Context(), rf3, &coordinator{w: w, calls: -1}, draw("a")); err == nil {
		t.Fatal("no error")
	}
	if n := w.nodes[2]; n.cluster != "" {
		t.Fatal("F1d: started without its replica")
	}
	w.nodes[1].boot()
	w.nodes[2].boot()
	if _, err := Form(t.Context(), rf3, &coordinator{w: w, calls: -1}, draw("b")); err != nil {
		t.Fatal(err)
	}
	w.wantFormed("a-1")
	if w.nodes[1].born != 2 {
		t.Fatalf("born %d times", w.nodes[1].born)
	}
}

func TestF1NobodyStartsBeforeAllAccepted(t *testing.T) {
	for missing := range 3 {
		w := newWorld(t, 3)
		c := &coordinator{w: w, calls: -1}
		plan := newPlan("a", rf3, c.Live())
		w.nodes[missing].down = true
		_, err := finish(t.Context(), c, plan, nil)
		if kverr.KindOf(err) != kverr.Unavailable || !strings.Contains(err.Error(), label(w.nodes[missing].node)) {
			t.Fatalf("want the missing node named: %v", err)
		}
		for _, n := range w.nodes {
			if n.cluster != "" || n.born > 0 {
				t.Fatalf("%s started without %s", n.node.Name, w.nodes[missing].node.Name)
			}
		}
	}
}

// Two coordinators at once, in many interleavings. With the same view exactly
// one plan wins and both succeed; with different views neither may start a
// cluster on a node that accepted another.
func TestF1TwoCoordinatorsAtOnce(t *testing.T) {
	split := 0
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t, 5)
			views := [][]int{nil, nil}
			if seed%2 == 1 {
				views = [][]int{{0, 1, 2, 3}, {1, 2, 3, 4}}
			}
			errs := make([]error, 2)
			var wg sync.WaitGroup
			for i, name := range []string{"a", "b"} {
				c := &coordinator{w: w, sees: views[i], calls: -1, slow: rand.New(rand.NewPCG(rng.Uint64(), 2))}
				wg.Go(func() { _, errs[i] = Form(t.Context(), rf3, c, draw(name)) })
			}
			wg.Wait()
			w.check()
			if views[0] == nil {
				if err := errors.Join(errs...); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				w.wantFormed(w.nodes[0].cluster)
				return
			}
			for _, err := range errs {
				if k := kverr.KindOf(err); err != nil && k != kverr.Conflict && k != kverr.Unavailable {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			if errs[0] != nil && errs[1] != nil {
				split++
			}
		})
	}
	t.Logf("both refused in %d of 150 runs with different views", split)
}

func TestF1DifferentPlansAreNamed(t *testing.T) {
	w := newWorld(t, 4)
	all := (&coordinator{w: w, calls: -1}).Live()
	w.nodes[0].plan = newPlan("a", rf3, all[:3])
	w.nodes[3].plan = newPlan("b", rf3, all[1:])
	_, err := Form(t.Context(), rf3, &coordinator{w: w, calls: -1}, draw("c"))
	if kverr.KindOf(err) != kverr.Conflict {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"cluster a: n1 (127.0.0.1:7401)", "cluster b: n4 (127.0.0.1:7404)"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestF1MemberKeepsItsFirstPlan(t *testing.T) {
	w := newWorld(t, 3)
	all := (&coordinator{w: w, calls: -1}).Live()
	first, second := newPlan("a", rf3, all), newPlan("b", rf3, all)
	m := w.nodes[0].member
	for range 2 {
		if held, err := m.Accept(t.Context(), first); held != nil || err != nil {
			t.Fatalf("%v, %v", held, err)
		}
	}
	held, err := m.Accept(t.Context(), second)
	if err != nil || !proto.Equal(held, first) {
		t.Fatalf("held %v, %v", held, err)
	}
	if !proto.Equal(w.nodes[0].plan, first) {
		t.Fatal("the stored plan changed")
	}
	if err := m.Start(t.Context(), "b"); !errors.Is(err, kverr.Conflict) {
		t.Fatalf("started a plan it never accepted: %v", err)
	}
	if err := m.Adopt(t.Context(), "z"); !errors.Is(err, kverr.Conflict) {
		t.Fatalf("joined a cluster beside its plan: %v", err)
	}
}

func TestF1JoinedNodeAcceptsNoPlan(t *testing.T) {
	w := newWorld(t, 3)
	plan := newPlan("a", rf3, (&coordinator{w: w, calls: -1}).Live())
	joined := w.nodes[2]
	joined.member = NewMember(joined.node.ID, joined, Hooks{
		Cluster: joined.Cluster, Started: func(string) {},
	})
	if err := joined.member.Adopt(t.Context(), "z"); err != nil {
		t.Fatal(err)
	}
	if err := joined.member.Adopt(t.Context(), "z"); err != nil {
		t.Fatalf("again: %v", err)
	}
	if err := joined.member.Adopt(t.Context(), "y"); !errors.Is(err, kverr.WrongCluster) {
		t.Fatalf("another: %v", err)
	}
	if _, err := joined.member.Accept(t.Context(), plan); !errors.Is(err, kverr.WrongCluster) {
		t.Fatalf("accepted: %v", err)
	}
	if _, err := Form(t.Context(), rf3, &coordinator{w: w, calls: -1}, draw("a")); !errors.Is(err, kverr.Conflict) {
		t.Fatalf("formed around it: %v", err)
	}
}

func TestRequestsAreChecked(t *testing.T) {
	w := newWorld(t, 2)
	form := func(r Request) error {
		_, err := Form(t.Context(), r, &coordinator{w: w, calls: -1}, draw("a"))
		return err
	}
	err := form(Request{})
	if kverr.KindOf(err) != kverr.Unavailable || !strings.HasPrefix(err.Error(),
		"3 nodes needed, 2 alive: n2 (127.0.0.1:7402), n1 (127.0.0.1:7401)") {
		t.Errorf("too few nodes: %v", err)
	}
	err = form(Request{Shards: MaxShards + 1, ReplicationFactor: 8})
	if kverr.KindOf(err) != kverr.Invalid || !strings.Contains(err.Error(), "1025 shards") ||
		!strings.Contains(err.Error(), "factor 8") {
		t.Errorf("want both faults: %v", err)
	}
	if err := form(Request{ReplicationFactor: 2}); err != nil {
		t.Errorf("two on purpose: %v", err)
	}
}

func TestSystemReplicasSpreadOverZones(t *testing.T) {
	var live []shardmap.Node
	for i, zone := range []string{"a", "a", "a", "b", "c"} {
		id := shardmap.NodeID(strings.Repeat(string(rune('a'+i)), 40))
		live = append(live, shardmap.Node{ID: id, Name: "n" + string(rune('1'+i)), Zone: zone})
	}
	var got []string
	for _, n := range spread(live, 3) {
		got = append(got, n.Name)
	}
	if s := strings.Join(got, " "); s != "n1 n4 n5" {
		t.Fatalf("took %s", s)
	}
}

// Waiting for one's turn ends with the caller's context.
func TestMemberDoesNotHangCallers(t *testing.T) {
	w := newWorld(t, 3)
	m := w.nodes[0].member
	<-m.turn // somebody's disk hangs
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := m.Start(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// What is under way ends before Close does; what comes later is refused.
func TestClosedMemberChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		m := w.nodes[0].member
		<-m.turn // a change is under way
		closed := false
		go func() {
			m.Close(t.Context())
			closed = true
		}()
		synctest.Wait()
		if closed {
			t.Fatal("closed under a change")
		}
		m.turn <- struct{}{}
		synctest.Wait()
		if err := m.Start(t.Context(), "a"); !closed || !errors.Is(err, kverr.Closed) {
			t.Fatalf("closed %v: %v", closed, err)
		}
	})
}

func FuzzValidate(f *testing.F) {
	w := newWorld(f, 3)
	good, err := proto.Marshal(newPlan("a", rf3, (&coordinator{w: w, calls: -1}).Live()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		plan := newPlan("x", Request{}, nil)
		if proto.Unmarshal(b, plan) != nil || Validate(plan) != nil {
			return
		}
		nodesOf(plan) // must not panic on what Validate let through
	})
}
