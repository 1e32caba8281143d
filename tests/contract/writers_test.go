package contract

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/ringfort/ringfort/client"
)

const (
	writers       = 8
	putKeys       = 96 // of each writer
	addKeys       = 6
	groups        = 6
	batch         = 48
	writesPerKill = 14_000
)

// load is what is written: each key by one writer, one write after the other.
type load struct {
	faults *faults
	wanted int64 // events
	kills  int64
	begun  atomic.Int64

	mu struct {
		sync.Mutex
		last map[string]int // the number of each key's last write, of writers that are through
	}
}

// write is one writer's part. It returns when all is written, or at the first error.
func (l *load) write(ctx context.Context, cl *client.Client, w int, r *rand.Rand) error {
	last := map[string]int{}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		maps.Copy(l.mu.last, last)
	}()
	for ctx.Err() == nil {
		var err error
		events := 1
		switch r.IntN(6) {
		case 0:
			key := fmt.Sprintf("put/%d/%d", w, r.IntN(putKeys))
			last[key]++
			err = l.writeOne(ctx, cl, key, last[key], r)
		case 1:
			key := fmt.Sprintf("add/%d/%d", w, r.IntN(addKeys))
			last[key]++
			err = l.writeAdd(ctx, cl, key, last[key], r)
		case 2, 3:
			tag := fmt.Sprintf("{group %d-%d}", w, r.IntN(groups))
			for _, part := range groupParts {
				last[tag+"/"+part]++
			}
			events = len(groupParts)
			err = l.writeGroup(ctx, cl, tag, last[tag+"/n"], r)
		default:
			events = batch
			err = l.writeMany(ctx, cl, w, last, r)
		}
		if err != nil {
			return fmt.Errorf("writer %d: %w", w, err)
		}
		begun := l.begun.Add(int64(events))
		if begun >= l.wanted {
			return nil
		}
		l.faults.await(ctx, due(begun, l.wanted, l.kills))
	}
	return ctx.Err()
}

func (l *load) writeOne(ctx context.Context, cl *client.Client, key string, number int, r *rand.Rand) error {
	id := client.WithRequestID(cl.NewRequestID())
	return untilAnswered(ctx, r, func(ctx context.Context) (err error) {
		if deletes(key, number) {
			_, err = cl.Delete(ctx, key, id)
		} else {
			_, err = cl.Put(ctx, key, valueOf(key, number), id)
		}
		return err
	})
}

func (l *load) writeAdd(ctx context.Context, cl *client.Client, key string, number int, r *rand.Rand) error {
	id := client.WithRequestID(cl.NewRequestID())
	return untilAnswered(ctx, r, func(ctx context.Context) error {
		sum, err := cl.Add(ctx, key, 1, id)
		if err == nil && sum.Value != int64(number) {
			err = fmt.Errorf("add %d to %s was answered with %d", number, key, sum.Value)
		}
		return err
	})
}

func (l *load) writeGroup(ctx context.Context, cl *client.Client, tag string, number int, r *rand.Rand) error {
	id := client.WithRequestID(cl.NewRequestID())
	return untilAnswered(ctx, r, func(ctx context.Context) error {
		txn := cl.Txn()
		for _, part := range groupParts {
			key := tag + "/" + part
			switch {
			case part == "n":
				txn.Then(client.OpAdd(key, 1))
			case deletes(key, number):
				txn.Then(client.OpDelete(key))
			default:
				txn.Then(client.OpPut(key, valueOf(key, number)))
			}
		}
		_, err := txn.Commit(ctx, id)
		return err
	})
}

// writeMany writes some keys, and deletes those of them whose turn that is. Such
// calls take no id, so the client itself repeats them, as long as it takes.
func (l *load) writeMany(ctx context.Context, cl *client.Client, w int, last map[string]int, r *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, everyAnswer)
	defer cancel()
	var pairs []client.KV
	var doomed []string
	for _, i := range r.Perm(putKeys)[:batch] {
		key := fmt.Sprintf("put/%d/%d", w, i)
		last[key]++
		if deletes(key, last[key]) {
			doomed = append(doomed, key)
		} else {
			pairs = append(pairs, client.KV{Key: key, Value: valueOf(key, last[key])})
		}
	}
	if _, err := cl.PutMany(ctx, pairs); err != nil {
		return err
	}
	_, err := cl.DeleteMany(ctx, doomed)
	return err
}
