package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Kind is what an operation does.
type Kind string

// The operations of the register workload.
const (
	Put    Kind = "put"
	Get    Kind = "get"
	Delete Kind = "delete"
)

// Outcome is what its caller was told.
type Outcome string

// The outcomes. Operations that were certainly not applied are kept in the
// history for people; the judge leaves them out.
const (
	Done       Outcome = "done"
	Unknown    Outcome = "unknown"
	NotApplied Outcome = "not applied"
)

// Op is one operation as its caller saw it. Times are virtual, since the start.
type Op struct {
	Client  int
	Kind    Kind
	Key     string
	Value   string // written, or read; empty when absent
	Version uint64 // of the answer; 0 when there was none
	Call    time.Duration
	Return  time.Duration
	Outcome Outcome
	Error   string `json:",omitempty"`
}

// history collects operations. Safe for concurrent use.
type history struct {
	mu  sync.Mutex
	ops []Op
}

func (h *history) add(op Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

func (h *history) all() []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Op(nil), h.ops...)
}

// byKey groups what the judge looks at.
func byKey(ops []Op) map[string][]Op {
	keys := make(map[string][]Op)
	for _, op := range ops {
		if op.Outcome != NotApplied && !(op.Outcome == Unknown && op.Kind == Get) {
			keys[op.Key] = append(keys[op.Key], op)
		}
	}
	return keys
}

// save writes plan and history where a person can look at them.
func save(dir string, p Plan, ops []Op) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	data, err := json.MarshalIndent(struct {
		Plan Plan
		Ops  []Op
	}{p, ops}, "", " ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("seed-%d.json", p.Seed))
	return path, os.WriteFile(path, data, 0o644)
}
