package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// adminAddresses are those that `kvctl local status -o json` names, by node.
func adminAddresses(t *testing.T) map[string]string {
	t.Helper()
	var s struct {
		Nodes []struct {
			Name  string
			Admin string `json:"admin_address"`
		}
	}
	r := must(t, 0, "local", "status", "-o", "json")
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		t.Fatalf("%v in %v", err, r)
	}
	found := map[string]string{}
	for _, n := range s.Nodes {
		found[n.Name] = n.Admin
	}
	return found
}

// fetch reads a page of an admin listener.
func fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
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

// Every node serves metrics, readiness and profiles where local status says.
func TestAdminListener(t *testing.T) {
	healthy(t)
	for name, address := range adminAddresses(t) {
		if status, body := fetch(t, "http://"+address+"/metrics"); status != 200 ||
			!strings.Contains(body, "\nringfort_node_serving 1\n") || !strings.Contains(body, "\nringfort_shard_term{shard=\"1\"} ") {
			t.Errorf("%s: %d %s", name, status, body)
		}
		for path, want := range map[string]string{
			"/metrics":        "\nprocess_cpu_seconds_total ",
			"/readyz":         "ok",
			"/healthz":        "ok",
			"/shards":         `"ready": true`,
			"/debug/pprof/":   "goroutine",
			"/readyz?verbose": `"phase": "serving"`,
		} {
			eventually(t, name+path, 20*time.Second, func() bool {
				status, body := fetch(t, "http://"+address+path)
				return status == 200 && strings.Contains(body, want)
			})
		}
	}
}
