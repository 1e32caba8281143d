package raftstore

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// Raft's complaints are warnings while the group lives, and none while it closes.
func TestRaftIsQuietWhileItCloses(t *testing.T) {
	var out bytes.Buffer
	closing := make(chan struct{})
	log := raftLogger(slog.New(slog.NewTextHandler(&out, nil)), 7, closing)
	log.Error("failed to heartbeat to", "peer", "x")
	if !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), "shard=7") {
		t.Errorf("alive: %q", out.String())
	}
	out.Reset()
	close(closing)
	log.Error("failed to heartbeat to", "peer", "x")
	log.Warn("heartbeat timeout reached")
	if out.Len() > 0 {
		t.Errorf("closing: %q", out.String())
	}
}
