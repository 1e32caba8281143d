package cli

import (
	"regexp"
	"strings"
	"testing"
)

// Changes that no node remembers are an exit code of their own, and never silence:
// what nodes remember ends with their process.
func TestP6_WatchFromForgottenChanges(t *testing.T) {
	healthy(t)
	must(t, 0, "put", "forgotten/a", "1")
	report := must(t, 0, "scan", "forgotten/", "--report")
	token := regexp.MustCompile(`(?m)^token: (.*)$`).FindStringSubmatch(report.stderr)
	if token == nil {
		t.Fatal(report)
	}
	must(t, 0, "put", "forgotten/a", "2")
	// A node that has not applied the change would do so after its restart, and then
	// remember it.
	must(t, 0, "cluster", "verify")
	must(t, 0, "local", "restart", "--all", "--dir", theCluster.dir)
	late := must(t, 14, "watch", "forgotten/a", "--token", token[1], "--limit", "1")
	if late.stdout != "" || !strings.Contains(late.stderr, "hint: read the keys again: kvctl watch --resync") {
		t.Fatal(late)
	}
	again := must(t, 0, "watch", "forgotten/a", "--token", token[1], "--limit", "1", "--resync")
	if again.stdout != "reset\nitem\tforgotten/a\t2\nsynced\n" {
		t.Fatal(again)
	}
}
