package adminhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// Bounds of the listener.
const (
	maxConns       = 64
	maxHeaderBytes = 16 << 10
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	writeTimeout   = 30 * time.Second // profiles add their own time
	idleTimeout    = time.Minute
	closeTimeout   = time.Second
)

// Options say what is served.
type Options struct {
	// Listener belongs to the server from Start on.
	Listener net.Listener
	// TLS, if not nil, is what the listener shows.
	TLS *tls.Config
	// Readiness says whether the node serves.
	Readiness func() Readiness
	// Metrics answers /metrics.
	Metrics http.Handler
	// Logger; required.
	Logger *slog.Logger
}

// Server is a listener that serves. Create it with Start.
type Server struct {
	http   *http.Server
	cancel context.CancelFunc // ends what handlers wait for

	workers sync.WaitGroup // the accept loop

	mu struct {
		sync.Mutex
		closed bool
	}
	handlers sync.WaitGroup // entered under mu while not closed
}

// Start begins to serve.
func Start(o Options) *Server {
	s := &Server{}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.http = &http.Server{
		Handler:           s.counted(newMux(o)),
		TLSConfig:         o.TLS,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	listener := netutil.LimitListener(o.Listener, maxConns)
	s.workers.Go(func() {
		serve := s.http.Serve
		if o.TLS != nil {
			serve = func(l net.Listener) error { return s.http.ServeTLS(l, "", "") }
		}
		if err := serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			// Nobody can look in any more, but the node's own work is not touched.
			o.Logger.Error("the admin listener ends", "error", err)
		}
	})
	return s
}

// counted lets Close wait for handlers, which http.Server.Close does not.
func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		closed := s.mu.closed
		if !closed {
			s.handlers.Add(1)
		}
		s.mu.Unlock()
		if closed {
			http.Error(w, "the node is stopping", http.StatusServiceUnavailable)
			return
		}
		defer s.handlers.Done()
		next.ServeHTTP(w, r)
	})
}

// Close ends the listener and waits for every handler. A second call does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	again := s.mu.closed
	s.mu.closed = true
	s.mu.Unlock()
	if again {
		return nil
	}
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close() // somebody does not take an answer
	}
	s.handlers.Wait()
	s.workers.Wait()
	if err != nil {
		return fmt.Errorf("close the admin listener: %w", err)
	}
	return nil
}
