package adminhttp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/test/bufconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server and returns its base URL and a client.
func serve(t *testing.T, o Options) (*Server, string, *http.Client) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Listener, o.Logger = l, slog.New(slog.DiscardHandler)
	if o.Metrics == nil {
		o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })
	}
	if o.Readiness == nil {
		o.Readiness = func() Readiness { return Readiness{Phase: "starting", Shards: []Shard{}} }
	}
	s := Start(o)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	scheme := "http://"
	if o.TLS != nil {
		scheme = "https://"
	}
	return s, scheme + l.Addr().String(), &http.Client{Transport: transport}
}

func get(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func TestPages(t *testing.T) {
	var ready atomic.Pointer[Readiness]
	ready.Store(&Readiness{Phase: "starting", Shards: []Shard{}})
	_, url, client := serve(t, Options{Readiness: func() Readiness { return *ready.Load() }})
	want := func(path string, status int, part string) string {
		t.Helper()
		got, body := get(t, client, url+path)
		if got != status || !strings.Contains(body, part) {
			t.Errorf("%s: %d %q, want %d %q", path, got, body, status, part)
		}
		return body
	}
	want("/", 200, "/metrics")
	want("/healthz", 200, "ok")
	want("/metrics", 200, "up 1")
	want("/debug/pprof/", 200, "goroutine")
	want("/debug/pprof/goroutine?debug=1", 200, "goroutine profile")
	want("/debug/pprof/profile?seconds=301", 400, "at most 300")
	want("/debug/pprof/trace?seconds=1e9", 400, "at most 300")
	want("/nothing", 404, "")
	want("/readyz", 503, "not ready: starting")
	want("/shards", 503, "[]")

	// One shard without a leader leaves the node ready (P8), and shows.
	ready.Store(&Readiness{Ready: true, Phase: "serving", Shards: []Shard{{Shard: 2, Ready: true}, {Shard: 3}}})
	want("/readyz", 200, "ok")
	var all Readiness
	if err := json.Unmarshal([]byte(want("/readyz?verbose", 200, `"phase": "serving"`)), &all); err != nil || len(all.Shards) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	want("/shards", 503, `"shard": 3`)
	ready.Store(&Readiness{Ready: true, Phase: "serving", Shards: []Shard{{Shard: 2, Ready: true}}})
	want("/shards", 200, `"shard": 2`)

	for _, path := range []string{"/metrics", "/healthz", "/debug/pprof/symbol"} {
		resp, err := client.Post(url+path, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, resp.StatusCode)
		}
	}
}

// A profile in progress does not hold up the stop of a node.
func TestCloseEndsProfilesAndWaitsForHandlers(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	s, url, client := serve(t, Options{Metrics: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	})})
	done := make(chan struct{}, 2)
	for _, path := range []string{"/metrics", "/debug/pprof/trace?seconds=300"} {
		go func() {
			resp, err := client.Get(url + path)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			done <- struct{}{}
		}()
	}
	<-entered
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-left:
	default:
		t.Fatal("Close returned before a handler had")
	}
	<-done
	<-done
	if _, err := client.Get(url + "/healthz"); err == nil {
		t.Fatal("answers after Close")
	}
}

// Handlers are told of the end at once and waited for, however long they take.
func TestCloseTellsHandlersAndWaitsForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 16)
		entered, release := make(chan struct{}), make(chan struct{})
		told := make(chan time.Time, 1)
		s := Start(Options{
			Listener: l, Logger: slog.New(slog.DiscardHandler),
			Readiness: func() Readiness { return Readiness{} },
			Metrics: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				close(entered)
				<-r.Context().Done()
				told <- time.Now()
				<-release
			}),
		})
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx) }}
		defer transport.CloseIdleConnections()
		go func() {
			if resp, err := (&http.Client{Transport: transport}).Get("http://node/metrics"); err == nil {
				resp.Body.Close()
			}
		}()
		<-entered
		began := time.Now()
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		time.Sleep(10 * closeTimeout)
		if at := <-told; !at.Equal(began) {
			t.Errorf("the handler was told after %s", at.Sub(began))
		}
		select {
		case <-closed:
			t.Error("Close returned before a handler had")
		default:
		}
		close(release)
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// What comes slowly does not hold a connection for ever.
func TestConnectionsAreBounded(t *testing.T) {
	_, url, client := serve(t, Options{})
	address := strings.TrimPrefix(url, "http://")
	var open []net.Conn
	for range maxConns {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := client.Do(r); err == nil {
		resp.Body.Close()
		t.Fatalf("served on connection %d", maxConns+1)
	}
	for _, c := range open[:2] { // the one that gave up holds a place until it is noticed
		c.Close()
	}
	if status, _ := get(t, client, url+"/healthz"); status != 200 {
		t.Fatalf("after some were closed: %d", status)
	}
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	_, url, client := serve(t, Options{TLS: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}})
	if status, body := get(t, client, url+"/healthz"); status != 200 || body != "ok\n" {
		t.Fatalf("%d %q", status, body)
	}
}
