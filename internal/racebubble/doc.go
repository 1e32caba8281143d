// Package racebubble keeps a test process to one P (GOMAXPROCS 1) under the race
// detector. Tests that open testing/synctest bubbles import it for this effect:
//
//	import _ "github.com/ringfort/ringfort/internal/racebubble"
//
// Why: a channel timer that is due when somebody looks at its channel, as
// time.NewTimer(0) is, is run by the goroutine that looks. Its race context is
// then the P's, of which there is one for each thread; but in a bubble it is the
// bubble's, of which there is one for all (timer.unlockAndRun in the runtime of Go
// 1.26; https://go.dev/issue/78156 shows the symptom). Two goroutines that look at
// once corrupt the race detector: the process dies, sooner or later, of SIGSEGV
// ("goroutine 0 … [idle, synctest bubble N]") or of a failed check of
// ThreadSanitizer, without a report. With one P no two goroutines run at once.
//
// What it costs: interleavings that need two cores are not run under the race
// detector; the same tests without it have them. Races are found all the same, for
// the detector judges by what is ordered before what, not by what ran beside what,
// and in race builds the scheduler shuffles goroutines. A bubble is hardly slower.
//
// It does nothing without the race detector. The -cpu flag of go test overrides
// it; so
//
//	go test -race -cpu 2 ./internal/racebubble
//
// dies as long as Go has the defect (unless no second core is idle). When it passes
// time after time, delete this package.
//
// internal/lint asserts that who imports testing/synctest imports this.
package racebubble
