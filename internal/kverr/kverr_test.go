package kverr

import (
	"errors"
	"fmt"
	"testing"
)

func TestKindIsMatchedThroughWrapping(t *testing.T) {
	cause := errors.New("disk on fire")
	for _, k := range Kinds() {
		err := fmt.Errorf("outer: %w", New(k, "inner: %w", cause))
		if !errors.Is(err, k) {
			t.Errorf("%v: errors.Is does not see the kind", k)
		}
		if KindOf(err) != k {
			t.Errorf("%v: KindOf = %v", k, KindOf(err))
		}
		if !errors.Is(err, cause) {
			t.Errorf("%v: the cause is lost", k)
		}
		for _, other := range Kinds() {
			if other != k && errors.Is(err, other) {
				t.Errorf("%v is taken for %v", k, other)
			}
		}
	}
}

func TestKindOfEdges(t *testing.T) {
	if KindOf(nil) != None {
		t.Error("nil has a kind")
	}
	if KindOf(errors.New("x")) != Internal {
		t.Error("an error without a kind must not look harmless")
	}
	if KindOf(fmt.Errorf("x: %w", Overloaded)) != Overloaded {
		t.Error("a bare kind is not seen")
	}
}

func TestOnlyOutcomeUnknownMayHaveBeenApplied(t *testing.T) {
	for _, k := range Kinds() {
		if k.Applied() != (k == OutcomeUnknown) {
			t.Errorf("%v.Applied() = %t", k, k.Applied())
		}
	}
}

func TestEveryKindHasAName(t *testing.T) {
	seen := make(map[string]Kind)
	for _, k := range Kinds() {
		name := k.String()
		if other, dup := seen[name]; dup || name == "" {
			t.Errorf("kinds %d and %d are both called %q", other, k, name)
		}
		seen[name] = k
	}
}
