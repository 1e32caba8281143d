package raftstore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"

	"github.com/hashicorp/go-hclog"

	"github.com/ringfort/ringfort/shardmap"
)

// raftLogger gives raft's log lines to slog, one level down: what raft calls
// info is news only to someone who debugs a group. So is everything that it says
// once the group is closing: it has no network any more and complains of that.
func raftLogger(logger *slog.Logger, shard shardmap.ShardID, closing <-chan struct{}) hclog.Logger {
	if !logger.Enabled(context.Background(), slog.LevelWarn) {
		return hclog.NewNullLogger()
	}
	return hclog.New(&hclog.LoggerOptions{
		Name:        fmt.Sprintf("shard-%d", shard),
		Level:       hclog.Info,
		Output:      lineWriter{logger: logger.With("shard", shard), closing: closing},
		DisableTime: true,
	})
}

// lineWriter takes hclog's "[LEVEL] text" lines.
type lineWriter struct {
	logger  *slog.Logger
	closing <-chan struct{}
}

func (w lineWriter) Write(line []byte) (int, error) {
	n := len(line)
	level := slog.LevelDebug
	if end := bytes.IndexByte(line, ']'); len(line) > 0 && line[0] == '[' && end > 0 {
		switch string(line[1:end]) {
		case "ERROR":
			level = slog.LevelWarn // a lost vote or heartbeat; our own errors are errors
		case "WARN":
			level = slog.LevelInfo
		}
		line = line[end+1:]
	}
	select {
	case <-w.closing:
		level = slog.LevelDebug
	default:
	}
	w.logger.Log(context.Background(), level, string(bytes.TrimSpace(line)))
	return n, nil
}

// pebbleLogger gives Pebble's log lines to slog. Fatalf takes the node down. It
// returns where Fatal does, in tests, so that no lock of Pebble's stays taken; the
// apply loop believes no commit after it.
type pebbleLogger struct {
	logger *slog.Logger
	fatal  func(error)
}

func (l pebbleLogger) Infof(format string, args ...any)  { l.logger.Debug(fmt.Sprintf(format, args...)) }
func (l pebbleLogger) Errorf(format string, args ...any) { l.logger.Warn(fmt.Sprintf(format, args...)) }
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf("pebble: "+format, args...))
}
