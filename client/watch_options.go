package client

// WatchOption configures a Watch.
type WatchOption interface{ watch(c *watchConfig) }

type watchConfig struct {
	params
	start    Token
	started  bool // From was given
	now      bool // FromNow was given
	resync   bool
	progress bool
}

type watchOption func(c *watchConfig)

func (o watchOption) watch(c *watchConfig) { o(c) }

// From begins with the first change behind a position, which is the token of a scan
// or of an earlier watch. It must be of this cluster and cover all slots that the
// watched keys may lie in; otherwise the error is ErrBadToken.
func From(t Token) WatchOption {
	return watchOption(func(c *watchConfig) { c.start, c.started = t, true })
}

// FromNow, the default, begins with the first change behind what had been
// acknowledged when the watch was set up. When that is done on all shards the loop
// gets a Progress, whether or not WithProgress was given.
func FromNow() WatchOption { return watchOption(func(c *watchConfig) { c.now = true }) }

// WithResync makes the watch go on where otherwise it would end with ErrCompacted:
// it scans the keys whose changes are lost, gives out what it finds as Reset, and
// continues behind that without a gap.
func WithResync() WatchOption { return watchOption(func(c *watchConfig) { c.resync = true }) }

// WithProgress makes the loop also get Progress, about once a second for each
// shard that was written to meanwhile: a token that is fresh even if no watched key
// changes. A quiet shard brings none; the token that there is stays good.
func WithProgress() WatchOption { return watchOption(func(c *watchConfig) { c.progress = true }) }
