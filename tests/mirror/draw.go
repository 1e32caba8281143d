package mirror

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Keys are few, so that operations meet. Those that may have deadlines are apart, so
// that the model of the others never forks.
var (
	plain   = []string{"a", "b", "c", "n"}
	dueKeys = []string{"s", "t"}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// draw makes up the next write.
func (w *Worker) draw(e *epoch) op {
	r := w.opts.Rand
	switch n := r.IntN(20); {
	case n < 3:
		return w.drawTxn(e)
	case n < 8:
		return w.drawBrief(e)
	}
	o := w.drawLeaf(e, plain)
	if o.Verb == put || o.Verb == del {
		switch r.IntN(6) {
		case 0:
			o.Cond = ifAbsent
		case 1:
			o.Cond = ifPresent
		case 2:
			o.Cond, o.Version = ifVersion, 1
			if known, ok := e.models[0][o.Key]; ok && r.IntN(3) > 0 {
				o.Version = known.version
			}
		}
	}
	return o
}

// drawLeaf makes up a put, delete or add on one of the keys.
func (w *Worker) drawLeaf(e *epoch, keys []string) op {
	r := w.opts.Rand
	o := op{Verb: pick(r, []verb{put, put, put, del, add}), Key: e.tag + pick(r, keys)}
	switch o.Verb {
	case put:
		o.Value = w.value()
		o.Keep = r.IntN(5) == 0
	case add:
		o.Key = e.tag + pick(r, []string{"n", "n", "n", keys[0]})
		o.Delta = pick(r, []int64{1, 1, -7, 1 << 62})
		return o
	}
	o.Previous = r.IntN(3) == 0
	return o
}

// value is one that is written once, or a number.
func (w *Worker) value() string {
	switch w.opts.Rand.IntN(6) {
	case 0:
		return fmt.Sprint(w.opts.Rand.IntN(100))
	case 1:
		return ""
	}
	return fmt.Sprintf("%s-%d\x00\xff", w.opts.Name, w.report.Ops)
}

// drawBrief makes up a write to a key with a deadline.
func (w *Worker) drawBrief(e *epoch) op {
	r := w.opts.Rand
	o := op{Verb: pick(r, []verb{put, put, put, expire, persist, del}), Key: e.tag + pick(r, dueKeys)}
	ttl := 200*time.Millisecond + time.Duration(r.Int64N(int64(maxTTL)))
	switch o.Verb {
	case put:
		o.Value = w.value()
		if o.Keep = r.IntN(5) == 0; !o.Keep {
			o.TTL = ttl
		}
	case expire:
		o.TTL = ttl
	}
	return o
}

func (w *Worker) drawTxn(e *epoch) op {
	r := w.opts.Rand
	o := op{Verb: txn}
	for range r.IntN(3) {
		c := compare{Kind: pick(r, []string{"absent", "present", "version", "value"}), Key: e.tag + pick(r, plain)}
		known := e.models[0][c.Key]
		switch c.Kind {
		case "version":
			c.Version = known.version
		case "value":
			c.Value = known.value
		}
		o.If = append(o.If, c)
	}
	leaves := func(least int) (ops []op) {
		for range least + r.IntN(4) {
			leaf := w.drawLeaf(e, plain)
			if r.IntN(4) == 0 {
				leaf = op{Verb: get, Key: e.tag + pick(r, plain)}
			}
			ops = append(ops, leaf)
		}
		return ops
	}
	o.Then, o.Else = leaves(1), leaves(0)
	return o
}
