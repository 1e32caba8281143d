package kvtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/client/kvtest"
)

// exampleT stands for the *testing.T that a test has and an example has not.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func example() *exampleT { return new(exampleT) }

func (t *exampleT) Helper()                   {}
func (t *exampleT) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (t *exampleT) Errorf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func (t *exampleT) end() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
}

// Visit is the code to be tested.
func Visit(ctx context.Context, c *client.Client, page string) (int64, error) {
	r, err := c.Add(ctx, "visits/"+page, 1)
	return r.Value, err
}

func Example() {
	t := example() // in a test: its *testing.T
	defer t.end()

	c := kvtest.NewServer(t).Client()
	for range 2 {
		n, err := Visit(context.Background(), c, "home")
		fmt.Println(n, err)
	}
	// Output:
	// 1 <nil>
	// 2 <nil>
}

func ExampleNewServer() {
	t := example()
	defer t.end()

	s := kvtest.NewServer(t, kvtest.WithShards(16), kvtest.WithVirtualTime())
	fmt.Println(s.Target(), s.Now())
	// Output: kv://kvtest:7400 2000-01-01 00:00:00 +0000 UTC
}

func ExampleServer_Client() {
	t := example()
	defer t.end()

	c := kvtest.NewServer(t).Client(client.WithTimeout(time.Second))
	_, err := c.Get(context.Background(), "nothing")
	fmt.Println(errors.Is(err, client.ErrNotFound))
	// Output: true
}

// Code that opens a client of its own is given the server's address and the way there.
func ExampleServer_Dial() {
	t := example()
	defer t.end()

	s := kvtest.NewServer(t)
	c, err := client.Open(context.Background(), s.Target(), client.WithDialer(s.Dial), client.WithBlock())
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer c.Close()
	fmt.Println(c.Stats().MapEpoch)
	// Output: 1
}

func ExampleServer_Target() {
	t := example()
	defer t.end()

	fmt.Println(kvtest.NewServer(t).Target())
	// Output: kv://kvtest:7400
}

func ExampleServer_Clock() {
	t := example()
	defer t.end()

	s := kvtest.NewServer(t, kvtest.WithVirtualTime())
	c, err := client.Open(context.Background(), s.Target(), client.WithDialer(s.Dial), client.WithClock(s.Clock()))
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer c.Close()
	_, err = c.Put(context.Background(), "session/17", nil, client.WithTTL(time.Hour))
	s.Advance(30 * time.Minute)
	r, _ := c.TTL(context.Background(), "session/17")
	fmt.Println(r.Left.Round(time.Second), err)
	// Output: 30m0s <nil>
}

func ExampleServer_Now() {
	t := example()
	defer t.end()

	s := kvtest.NewServer(t, kvtest.WithVirtualTime())
	s.Advance(24 * time.Hour)
	fmt.Println(s.Now().Format(time.DateOnly))
	// Output: 2000-01-02
}

// A lock that its owner has lost can be had by somebody else, not a moment before.
func ExampleServer_Advance() {
	t := example()
	defer t.end()

	ctx := context.Background()
	s := kvtest.NewServer(t, kvtest.WithVirtualTime())
	c := s.Client()
	lock := func(who string) bool {
		_, err := c.Put(ctx, "lock", []byte(who), client.IfAbsent(), client.WithTTL(30*time.Second))
		return err == nil
	}
	fmt.Println("anna", lock("anna"))
	s.Advance(29 * time.Second)
	fmt.Println("berta", lock("berta"))
	s.Advance(time.Second)
	fmt.Println("berta", lock("berta"))
	// Output:
	// anna true
	// berta false
	// berta true
}

func ExampleWithShards() {
	t := example()
	defer t.end()

	c := kvtest.NewServer(t, kvtest.WithShards(16)).Client()
	var report client.ScanReport
	for range c.Scan(context.Background(), client.All(), client.WithReport(&report)) {
	}
	fmt.Println(report.Streams)
	// Output: 16
}

func ExampleWithVirtualTime() {
	t := example()
	defer t.end()

	c := kvtest.NewServer(t, kvtest.WithVirtualTime()).Client()
	r, err := c.Put(context.Background(), "k", nil)
	fmt.Println(r.Version, err) // the same every time
	// Output: 946684800000000 <nil>
}

// A watch that was away for too long has to begin anew.
func ExampleWithWatchHistory() {
	t := example()
	defer t.end()

	ctx := context.Background()
	c := kvtest.NewServer(t, kvtest.WithWatchHistory(1)).Client()
	var report client.ScanReport
	for range c.Scan(ctx, client.Key("k"), client.WithReport(&report)) {
	}
	for i := range 3 {
		if _, err := c.Put(ctx, "k", []byte{byte('0' + i)}); err != nil {
			t.Fatalf("%v", err)
		}
	}
	for _, err := range c.Watch(ctx, client.Key("k"), client.From(report.Token())) {
		fmt.Println(errors.Is(err, client.ErrCompacted))
		break
	}
	for ch := range c.Watch(ctx, client.Key("k"), client.From(report.Token()), client.WithResync()) {
		fmt.Printf("%t %s\n", ch.Kind == client.Reset, ch.Items[0].Value)
		break
	}
	// Output:
	// true
	// true 2
}

func ExampleServer_FailNext() {
	t := example()
	defer t.end()

	ctx := context.Background()
	s := kvtest.NewServer(t)
	c := s.Client()
	s.FailNext(kvtest.Match{Kind: kvtest.Put, Prefix: "order/"}, client.ErrNoSpace)
	_, err := c.Put(ctx, "order/1", nil)
	fmt.Println(errors.Is(err, client.ErrNoSpace), errors.Is(err, client.ErrInDoubt))
	_, err = c.Put(ctx, "order/1", nil)
	fmt.Println(err)
	// Output:
	// true false
	// <nil>
}

// A write is under way for as long as the test likes.
func ExampleServer_Delay() {
	t := example()
	defer t.end()

	ctx := context.Background()
	s := kvtest.NewServer(t)
	c := s.Client()
	held := s.Delay(kvtest.Match{Kind: kvtest.Put, Key: "k"}, time.Hour)
	done := make(chan error)
	go func() {
		_, err := c.Put(ctx, "k", []byte("new"))
		done <- err
	}()
	_, err := c.Get(ctx, "k")
	fmt.Println("meanwhile:", errors.Is(err, client.ErrNotFound))
	held.Lift()
	fmt.Println(<-done)
	// Output:
	// meanwhile: true
	// <nil>
}

// The answer is lost, the client asks again, and the sum is right.
func ExampleServer_DropReply() {
	t := example()
	defer t.end()

	s := kvtest.NewServer(t)
	c := s.Client()
	s.DropReply(kvtest.Match{Kind: kvtest.Add})
	r, err := c.Add(context.Background(), "n", 1)
	fmt.Println(r.Value, r.Repeated, err)
	// Output: 1 true <nil>
}

func ExampleFault_Hits() {
	t := example()
	defer t.end()

	s := kvtest.NewServer(t)
	c := s.Client()
	busy := s.FailNext(kvtest.Match{Kind: kvtest.Get, Times: 2}, client.ErrOverloaded)
	_, err := c.Get(context.Background(), "k")
	fmt.Println(errors.Is(err, client.ErrNotFound), busy.Hits())
	// Output: true 2
}

func ExampleFault_Lift() {
	t := example()
	defer t.end()

	ctx := context.Background()
	s := kvtest.NewServer(t)
	c := s.Client()
	full := s.FailNext(kvtest.Match{Kind: kvtest.Put, Times: kvtest.Forever}, client.ErrNoSpace)
	for range 2 {
		_, err := c.Put(ctx, "k", nil)
		fmt.Println(errors.Is(err, client.ErrNoSpace))
	}
	full.Lift()
	_, err := c.Put(ctx, "k", nil)
	fmt.Println(err)
	// Output:
	// true
	// true
	// <nil>
}

func ExampleMatch() {
	t := example()
	defer t.end()

	s := kvtest.NewServer(t)
	s.DropReply(kvtest.Match{})                                                       // the next request
	s.DropReply(kvtest.Match{Key: "a", Times: 3})                                     // three that are about a
	s.DropReply(kvtest.Match{Kind: kvtest.Txn, Prefix: "{7}"})                        // a transaction or batch
	s.Delay(kvtest.Match{Kind: kvtest.Watch, Times: kvtest.Forever}, time.Second)     // all watches
	s.FailNext(kvtest.Match{Kind: kvtest.Scan, Prefix: "log/"}, client.ErrOverloaded) // of a range that has room for log/…
}
