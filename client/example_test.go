package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/ringfort/ringfort/client"
)

func Example() {
	ctx := context.Background()
	c, err := client.Open(ctx, "kv://127.0.0.1:7401,127.0.0.1:7402")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(ctx, "hello", []byte("world")); err != nil {
		log.Fatal(err)
	}
	item, err := c.Get(ctx, "hello")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, version %d\n", item.Value, item.Version)
}

func ExampleOpen() {
	c, err := client.Open(context.Background(), "not a target")
	fmt.Println(c == nil, errors.Is(err, client.ErrInvalid))
	// Output: true true
}

func ExampleClient_Get() {
	var c *client.Client
	item, err := c.Get(context.Background(), "hello")
	switch {
	case errors.Is(err, client.ErrNotFound):
		fmt.Println("no such key")
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Printf("%s\n", item.Value)
	}
}

func ExampleClient_Put() {
	var c *client.Client
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := c.Put(ctx, "hello", []byte("world"))
	switch {
	case errors.Is(err, client.ErrInDoubt):
		fmt.Println("it may or may not have been written: read it back")
	case err != nil:
		fmt.Println("certainly not written:", err)
	}
}

func ExampleClient_Delete() {
	var c *client.Client
	if _, err := c.Delete(context.Background(), "hello"); err != nil {
		log.Fatal(err)
	}
}

func ExampleIfVersion() {
	var c *client.Client
	ctx := context.Background()
	for {
		item, err := c.Get(ctx, "balance")
		if err != nil {
			log.Fatal(err)
		}
		_, err = c.Put(ctx, "balance", append(item.Value, '0'), client.IfVersion(item.Version))
		if !errors.Is(err, client.ErrConditionFailed) {
			break // done, or an error that is no conflict
		}
	}
}

func ExampleIfAbsent() {
	var c *client.Client
	_, err := c.Put(context.Background(), "lock/17", []byte("me"), client.IfAbsent(), client.WithTTL(30*time.Second))
	var failed *client.Error
	if errors.Is(err, client.ErrConditionFailed) && errors.As(err, &failed) {
		fmt.Println("somebody has had it since version", failed.Version)
	}
}

func ExampleWithPrevious() {
	var c *client.Client
	r, err := c.Put(context.Background(), "hello", []byte("world"), client.WithPrevious())
	if err == nil && r.Previous != nil {
		fmt.Printf("replaced %s\n", r.Previous.Value)
	}
}

func ExampleClient_Add() {
	var c *client.Client
	r, err := c.Add(context.Background(), "visits", 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("visitor number", r.Value)
}

func ExampleClient_Expire() {
	var c *client.Client
	if _, err := c.Expire(context.Background(), "session/17", time.Hour); errors.Is(err, client.ErrNotFound) {
		fmt.Println("the session is over")
	}
}

func ExampleClient_Persist() {
	var c *client.Client
	if _, err := c.Persist(context.Background(), "session/17"); err != nil {
		log.Fatal(err)
	}
}

func ExampleClient_TTL() {
	var c *client.Client
	r, err := c.TTL(context.Background(), "session/17")
	switch {
	case err != nil:
		log.Fatal(err)
	case r.Limited:
		fmt.Println("ends in", r.Left)
	default:
		fmt.Println("does not end")
	}
}

// A session sees its own writes and never goes back in time, wherever its reads
// are served, also in the next process.
func ExampleSession() {
	var c *client.Client
	ctx := context.Background()
	s := client.NewSession()
	if _, err := c.Put(ctx, "cart", []byte("eggs"), client.WithSession(s)); err != nil {
		log.Fatal(err)
	}
	item, err := c.Get(ctx, "cart", client.InSession(s), client.FromFollower())
	fmt.Println(item.Value, err)
	header := s.Token().String() // travels, for instance in a header

	token, err := client.ParseToken(header)
	if err != nil {
		log.Fatal(err)
	}
	item, err = c.Get(ctx, "cart", client.AtLeast(token), client.Nearest())
	fmt.Println(item.Value, item.Served.By, err)
}

func ExampleBoundedStale() {
	var c *client.Client
	item, err := c.Get(context.Background(), "price", client.BoundedStale(5*time.Second), client.FromFollower())
	fmt.Println(item.Value, err)
}

func ExampleIfNotVersion() {
	var c *client.Client
	mine := client.Item{Key: "page", Value: []byte("…"), Version: 1234}
	item, err := c.Get(context.Background(), mine.Key, client.IfNotVersion(mine.Version))
	if err == nil && !item.NotModified {
		mine = item
	}
}

func ExampleParseToken() {
	_, err := client.ParseToken("c29tZXRoaW5nIGVsc2U")
	fmt.Println(errors.Is(err, client.ErrBadToken))
	// Output: true
}

func ExampleClient_Scan() {
	var c *client.Client
	for item, err := range c.Scan(context.Background(), client.Prefix("{user17}/"), client.Limit(100)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s = %s\n", item.Key, item.Value)
	}
}

// What a scan cost, and where a watch can go on from.
func ExampleWithReport() {
	var c *client.Client
	var report client.ScanReport
	for _, err := range c.Scan(context.Background(), client.All(), client.BySlot(), client.KeysOnly(), client.WithReport(&report)) {
		if err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(report.Items, report.Examined, report.Token())
}

func ExampleClient_Count() {
	var c *client.Client
	n, err := c.Count(context.Background(), client.Range("2026-01", "2026-02"))
	fmt.Println(n, err)
}

func ExampleClient_DeleteRange() {
	var c *client.Client
	n, err := c.DeleteRange(context.Background(), client.Prefix("tmp/"), func(p client.DeleteProgress) {
		fmt.Printf("%.0f %%\n", 100*p.Fraction)
	})
	fmt.Println(n, err)
}

func ExampleClient_Watch() {
	var c *client.Client
	for ch, err := range c.Watch(context.Background(), client.Prefix("job/"), client.FromNow()) {
		if err != nil {
			log.Fatal(err)
		}
		for _, e := range ch.Events {
			fmt.Println(ch.Version, e.Type, e.Key, string(e.Value))
		}
		save(ch.Token.String()) // where another process can go on from
	}
}

// A copy of a part of the store that follows it for ever, whatever happens.
func ExampleWithResync() {
	var c *client.Client
	ctx, jobs := context.Background(), client.Prefix("job/")
	mirror := make(map[string][]byte)
	var report client.ScanReport
	for item, err := range c.Scan(ctx, jobs, client.WithReport(&report)) {
		if err != nil {
			log.Fatal(err)
		}
		mirror[item.Key] = item.Value
	}
	for ch, err := range c.Watch(ctx, jobs, client.From(report.Token()), client.WithResync()) {
		if err != nil {
			log.Fatal(err)
		}
		if ch.First {
			for key := range mirror {
				if ch.Covers(key) {
					delete(mirror, key)
				}
			}
		}
		for _, item := range ch.Items {
			mirror[item.Key] = item.Value
		}
		for _, e := range ch.Events {
			switch e.Type {
			case client.EventPut:
				mirror[e.Key] = e.Value
			case client.EventDelete, client.EventExpire:
				delete(mirror, e.Key)
			}
		}
	}
}

func ExampleWithCache() {
	ctx := context.Background()
	c, err := client.Open(ctx, "kv://127.0.0.1:7401", client.WithCache(64<<20))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for range 1000 { // one of them asks a node, the others in the same second do not
		if _, err := c.Get(ctx, "price", client.BoundedStale(time.Second)); err != nil {
			log.Print(err)
			break
		}
	}
	// Still linearizable: a node is asked, but sends the value only if it is new.
	item, err := c.Get(ctx, "price")
	fmt.Println(item.Value, err)
	s := c.Stats()
	fmt.Println(s.CacheHits, s.CacheValidated, s.CacheMisses, s.CacheRefused)
}

func ExampleWithoutCache() {
	var c *client.Client
	item, err := c.Get(context.Background(), "price", client.BoundedStale(time.Minute), client.WithoutCache())
	fmt.Println(item.Value, err)
}

func ExampleClient_Txn() {
	var c *client.Client
	r, err := c.Txn().
		If(client.ValueIs("{acct7}state", []byte("open")), client.VersionIs("{acct7}owner", 1234)).
		Then(client.OpAdd("{acct7}balance", -100), client.OpAdd("{acct7}reserved", 100)).
		Else(client.OpGet("{acct7}state")).
		Commit(context.Background())
	switch {
	case err != nil:
		log.Fatal(err)
	case r.Succeeded:
		fmt.Println("left:", r.Results[0].Number)
	case !r.ResultsLost:
		fmt.Printf("the account is %s\n", r.Results[0].Value)
	}
}

func ExampleClient_Batch() {
	var c *client.Client
	_, err := c.Batch(context.Background(),
		client.OpPut("{user17}mail", []byte("a@example.org")),
		client.OpDelete("{user17}unconfirmed"),
	)
	if errors.Is(err, client.ErrCrossSlot) {
		log.Fatal("the keys lack a common {hash tag}: ", err)
	}
}

func ExampleClient_DeleteMany() {
	var c *client.Client
	if _, err := c.DeleteMany(context.Background(), []string{"a", "b"}); err != nil {
		log.Fatal(err)
	}
}

func ExampleClient_GetMany() {
	var c *client.Client
	results, err := c.GetMany(context.Background(), []string{"a", "b"})
	if err != nil {
		log.Fatal(err) // some key has no answer
	}
	for _, r := range results {
		if r.Err == nil {
			fmt.Printf("%s = %s\n", r.Item.Key, r.Item.Value)
		}
	}
}

func ExampleClient_PutMany() {
	var c *client.Client
	results, err := c.PutMany(context.Background(), []client.KV{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}})
	if err != nil {
		for _, r := range results {
			fmt.Println(r.Version, r.Err)
		}
	}
}

// A write that must not be lost or doubled even if this process dies in the
// middle of it: store its id first.
func ExampleWithRequestID() {
	var c *client.Client
	ctx := context.Background()
	id := c.NewRequestID()
	save(id.String())
	_, err := c.Put(ctx, "payment/17", []byte("42.00"), client.WithRequestID(id))
	if err != nil {
		log.Print(err)
	}

	// After a restart, within RequestIDLifetime:
	id, err = client.ParseRequestID(load())
	if err != nil {
		log.Fatal(err)
	}
	result, err := c.Put(ctx, "payment/17", []byte("42.00"), client.WithRequestID(id))
	fmt.Println(result.Repeated, err)
}

func ExampleClient_Stats() {
	c, err := client.Open(context.Background(), "127.0.0.1:7401")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	s := c.Stats()
	fmt.Println(s.Operations, s.Frames, s.MapEpoch)
	// Output: 0 0 0
}

func ExampleParseRequestID() {
	_, err := client.ParseRequestID("something else")
	fmt.Println(err)
	// Output: request id: invalid request: "something else" is not the text of a request id
}

func save(string)  {}
func load() string { return "" }
