package client

// WatchOption configures a Watch.
type WatchOption interface{ watch(c *watchConfig) }

type watchConfig struct{ params }
