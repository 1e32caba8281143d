package version

import (
	"runtime"
	"testing"
)

func TestStampedByTheBuild(t *testing.T) {
	defer restore(Version, Commit, Date)
	restore("1.2.3", "abc", "2026-01-02")
	want := "1.2.3 (commit abc, 2026-01-02, " + runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH + ")"
	if got := String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNothingIsEmpty(t *testing.T) {
	defer restore(Version, Commit, Date)
	restore("", "", "")
	i := Get()
	for name, value := range map[string]string{
		"version": i.Version, "commit": i.Commit, "date": i.Date, "go": i.Go, "platform": i.Platform,
	} {
		if value == "" {
			t.Errorf("%s is empty", name)
		}
	}
}

func restore(version, commit, date string) { Version, Commit, Date = version, commit, date }
