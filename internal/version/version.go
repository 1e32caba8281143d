// Package version says which build this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by the build with -ldflags -X; empty in a plain `go build`.
var (
	Version string
	Commit  string
	Date    string
)

// Info is the build, for people and for JSON.
type Info struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Date     string `json:"date"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Get returns the build's facts; what the build did not stamp comes from the
// module information that Go embeds, or says "unknown".
func Get() Info {
	i := Info{Version: Version, Commit: Commit, Date: Date, Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if build, ok := debug.ReadBuildInfo(); ok {
		if i.Version == "" {
			i.Version = build.Main.Version
		}
		for _, s := range build.Settings {
			switch {
			case s.Key == "vcs.revision" && i.Commit == "":
				i.Commit = s.Value
			case s.Key == "vcs.time" && i.Date == "":
				i.Date = s.Value
			}
		}
	}
	for _, field := range []*string{&i.Version, &i.Commit, &i.Date} {
		if *field == "" {
			*field = "unknown"
		}
	}
	return i
}

// String is the one line that --version prints after the program's name.
func String() string {
	i := Get()
	return fmt.Sprintf("%s (commit %s, %s, %s, %s)", i.Version, i.Commit, i.Date, i.Go, i.Platform)
}
