package adminhttp

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"
)

// maxProfile bounds how long one request may profile: it costs the node a few
// percent meanwhile.
const maxProfile = 5 * time.Minute

const index = `Ringfort node

/metrics              Prometheus metrics
/healthz              the process answers
/readyz               the node serves; ?verbose for its shards
/shards               every replica here serves or follows a leader
/debug/pprof/         profiles
`

func newMux(o Options) *http.ServeMux {
	mux := http.NewServeMux()
	text := func(pattern, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, body) })
	}
	text("GET /{$}", index)
	text("GET /healthz", "ok\n")
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready := o.Readiness()
		if r.URL.Query().Has("verbose") {
			writeJSON(w, code(ready.Ready), ready)
			return
		}
		ready.write(w)
	})
	mux.HandleFunc("GET /shards", func(w http.ResponseWriter, _ *http.Request) {
		ready := o.Readiness()
		writeJSON(w, code(ready.Ready && ready.allShards()), ready.Shards)
	})
	mux.Handle("GET /metrics", o.Metrics)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", bounded(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", bounded(pprof.Trace))
	return mux
}

func code(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

// bounded refuses profiles that would take too long.
func bounded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seconds, err := strconv.ParseFloat(r.FormValue("seconds"), 64)
		if err == nil && seconds > maxProfile.Seconds() {
			http.Error(w, fmt.Sprintf("seconds: at most %.0f are possible", maxProfile.Seconds()), http.StatusBadRequest)
			return
		}
		next(w, r)
	}
}

// A failed write below means that the other side is gone; nobody is left to tell.

func writeText(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v)
}
