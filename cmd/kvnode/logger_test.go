package main

import (
	"log/slog"
	"testing"

	"github.com/ringfort/ringfort/node/config"
)

// The log begins as configured and follows what the level is set to later.
func TestTheLogFollowsItsLevel(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var level slog.LevelVar
		log := newLogger(&config.Config{LogLevel: slog.LevelWarn, LogFormat: format}, &level)
		if log.Enabled(t.Context(), slog.LevelInfo) || !log.Enabled(t.Context(), slog.LevelWarn) {
			t.Errorf("%s: does not begin at warn", format)
		}
		level.Set(slog.LevelDebug)
		if !log.Enabled(t.Context(), slog.LevelDebug) {
			t.Errorf("%s: stays where it began", format)
		}
	}
}
