package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ringfort/ringfort/shardmap"
)

// Kind is what an operation does.
type Kind string

// The operations of the register workload.
const (
	Put    Kind = "put"
	Get    Kind = "get"
	Delete Kind = "delete"
)

// Seen is what a probe saw on some replica: it had applied the shard up to View.
// So that was committed, and no linearizable read that begins later may be behind.
const Seen Kind = "seen"

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
	Shard   shardmap.ShardID // the key's; 0 when unknown
	Key     string
	Value   string // written, or read; empty when absent
	Version uint64 // of the answer; 0 when there was none
	View    uint64 // the shard's last version in the view that answered; 0 when unknown or before its first write
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

// byKey groups what the judges of single keys look at.
func byKey(ops []Op) map[string][]Op {
	keys := make(map[string][]Op)
	for _, op := range ops {
		if op.Kind != Seen && op.Outcome != NotApplied && !(op.Outcome == Unknown && op.Kind == Get) {
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
