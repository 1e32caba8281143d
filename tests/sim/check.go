package sim

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Bounds within which porcupine settles a key quickly; the workload keeps to
// them by moving on to a fresh key.
const (
	maxOpsPerKey     = 200
	maxUnknownPerKey = 8
	judgeTimeout     = 20 * time.Second
)

// register is one key: absent or a value.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		op := input.(Op)
		switch op.Kind {
		case Put:
			return true, op.Value
		case Delete:
			return true, ""
		default:
			return output.(string) == state.(string), state
		}
	},
	DescribeOperation: func(input, output any) string {
		op := input.(Op)
		return fmt.Sprintf("%s %s=%q v%d", op.Kind, op.Key, op.Value, op.Version)
	},
}

// checkLinearizable judges each key by itself. A key that porcupine cannot
// settle fails the run.
func checkLinearizable(ops []Op) error {
	var errs []error
	for key, of := range byKey(ops) {
		end := time.Duration(0)
		for _, op := range of {
			end = max(end, op.Return)
		}
		events := make([]porcupine.Operation, 0, len(of))
		for i, op := range of {
			ret := op.Return
			if op.Outcome == Unknown {
				ret = end + 1 // it may take effect at any later time, or never
			}
			events = append(events, porcupine.Operation{ClientId: i, Input: op, Call: int64(op.Call), Output: op.Value, Return: int64(ret)})
		}
		switch porcupine.CheckOperationsTimeout(register, events, judgeTimeout) {
		case porcupine.Illegal:
			errs = append(errs, fmt.Errorf("key %s is not linearizable (%d operations)", key, len(of)))
		case porcupine.Unknown:
			errs = append(errs, fmt.Errorf("key %s: %d operations could not be settled in %s", key, len(of), judgeTimeout))
		}
	}
	return errors.Join(errs...)
}

// checkVersions judges the order of versions in linear time: what ended before
// another operation on the key began has no higher version, writes have versions
// of their own, and a version always shows the same value.
func checkVersions(ops []Op) error {
	var errs []error
	for key, of := range byKey(ops) {
		errs = append(errs, checkKeyVersions(key, of))
	}
	return errors.Join(errs...)
}

func checkKeyVersions(key string, ops []Op) error {
	writers := make(map[uint64]Op)
	for _, op := range ops {
		if op.Outcome != Done || op.Kind == Get {
			continue
		}
		if op.Version == 0 {
			return fmt.Errorf("key %s: %s of %q was acknowledged without a version", key, op.Kind, op.Value)
		}
		if other, dup := writers[op.Version]; dup {
			return fmt.Errorf("key %s: version %d was given to %q and to %q", key, op.Version, other.Value, op.Value)
		}
		writers[op.Version] = op
	}
	var seen []Op // with a version
	for _, op := range ops {
		if op.Outcome == Done && op.Version != 0 {
			seen = append(seen, op)
		}
		if w, ok := writers[op.Version]; ok && op.Kind == Get && op.Outcome == Done && op.Version != 0 && w.Value != op.Value {
			return fmt.Errorf("key %s: version %d was written as %q and read as %q", key, op.Version, w.Value, op.Value)
		}
	}
	return inOrder(seen, func(op Op) uint64 { return op.Version }, func(op, before Op) error {
		if op.Version < before.Version || op.Kind != Get && op.Version == before.Version {
			return fmt.Errorf("key %s: %s at %s has version %d although %s that ended at %s had %d",
				key, op.Kind, op.Call, op.Version, before.Kind, before.Return, before.Version)
		}
		return nil
	})
}

// inOrder has each operation judged against the one of highest level among those
// that ended before it began, and returns the first verdict.
func inOrder(ops []Op, level func(Op) uint64, judge func(op, before Op) error) error {
	ended, begun := slices.Clone(ops), slices.Clone(ops)
	slices.SortFunc(ended, func(a, b Op) int { return cmp.Compare(a.Return, b.Return) })
	slices.SortFunc(begun, func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
	before, next := Op{}, 0
	for _, op := range begun {
		for ; next < len(ended) && ended[next].Return < op.Call; next++ {
			if level(ended[next]) > level(before) {
				before = ended[next]
			}
		}
		if err := judge(op, before); err != nil {
			return err
		}
	}
	return nil
}
