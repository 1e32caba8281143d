package state

import (
	"flag"
	"os"
	"testing"
)

// TestMain lets the property tests run longer than rapid's default. Given on the
// command line, -rapid.checks still wins.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "300"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
