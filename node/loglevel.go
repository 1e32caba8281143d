package node

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/config"
)

// logLevel serialises changes, so that each reports what it replaced.
type logLevel struct{ mu sync.Mutex }

// set changes from which level on is logged, until the process ends. The change
// is logged while the more talkative of the two levels is in force.
func (l *logLevel) set(level *slog.LevelVar, to slog.Level, log *slog.Logger) (was slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was = level.Level()
	say := func() { log.Warn("the log level is changed", "from", levelName(was), "to", levelName(to)) }
	switch {
	case to < was:
		level.Set(to)
		say()
	case to > was:
		say()
		level.Set(to)
	}
	return was
}

// levelName is a level as --log-level takes it.
func levelName(level slog.Level) string { return strings.ToLower(level.String()) }

// LogLevel implements adminv1.AdminServer.
func (s adminService) LogLevel(_ context.Context, req *adminv1.LogLevelRequest) (*adminv1.LogLevelResponse, error) {
	level := s.n.deps.LogLevel
	if level == nil {
		return nil, wire.StatusFromError(kverr.New(kverr.Conflict, "node %s was started with a fixed log level", s.n.self.Name))
	}
	if req.GetLevel() == "" {
		now := levelName(level.Level())
		return &adminv1.LogLevelResponse{Level: now, Was: now}, nil
	}
	to, err := config.ParseLogLevel(req.GetLevel())
	if err != nil {
		return nil, wire.StatusFromError(kverr.New(kverr.Invalid, "log level: %w", err))
	}
	was := s.n.level.set(level, to, s.n.log)
	return &adminv1.LogLevelResponse{Level: levelName(to), Was: levelName(was)}, nil
}
