package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// newLogger turns memberlist's "[LEVEL] memberlist: …" lines into slog records.
// All but its errors are for debugging: refuting a suspicion, refusing a stranger
// or a ping for a former run is a warning to memberlist and daily business here.
func newLogger(logger *slog.Logger) *log.Logger {
	return log.New(&logWriter{logger: logger}, "", 0)
}

type logWriter struct{ logger *slog.Logger }

var logLevels = []struct {
	prefix []byte
	level  slog.Level
}{
	{[]byte("[ERR] "), slog.LevelWarn},
	{[]byte("[WARN] "), slog.LevelDebug},
	{[]byte("[INFO] "), slog.LevelDebug},
	{[]byte("[DEBUG] "), slog.LevelDebug},
}

// Write implements io.Writer; log.Logger calls it once per line.
func (w *logWriter) Write(line []byte) (int, error) {
	n := len(line)
	level := slog.LevelInfo
	for _, l := range logLevels {
		if rest, ok := bytes.CutPrefix(line, l.prefix); ok {
			level, line = l.level, rest
			break
		}
	}
	line = bytes.TrimPrefix(bytes.TrimSpace(line), []byte("memberlist: "))
	if w.logger.Enabled(context.Background(), level) {
		w.logger.Log(context.Background(), level, "gossip: "+string(line))
	}
	return n, nil
}
