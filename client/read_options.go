package client

// ReadOption configures one read.
type ReadOption interface{ read(p *params) }
