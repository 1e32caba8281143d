package cli

import (
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
)

// bar is the progress bar, which exists only on a terminal.
type bar struct {
	shown *progressbar.ProgressBar
	done  atomic.Bool
}

// newBar shows what is done of a size, which is -1 if nobody knows it.
func (a *app) newBar(what string, size int64, inBytes bool) *bar {
	if !a.progress {
		return &bar{}
	}
	return &bar{shown: progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(inBytes),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		// The spinner has a goroutine that nobody could wait for.
		progressbar.OptionSetSpinnerChangeInterval(0),
	)}
}

func (b *bar) add(n int) {
	if b.shown != nil && !b.done.Load() {
		_ = b.shown.Add(n) // a bar that cannot be drawn is no trouble
	}
}

func (b *bar) finish() {
	if b.shown != nil {
		b.done.Store(true)
		_ = b.shown.Clear()
	}
}
