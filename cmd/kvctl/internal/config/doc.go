// Package config finds out what one run of kvctl talks to and how: from flags,
// the environment, the context file and defaults, in this order.
//
// It does not connect to anything. The caller parses flags and prints errors.
//
// The context file is JSON, mode 0600, replaced whole or not at all, and
// changed under a lock, so that two programs that change it at once both have
// their effect. `kvctl local up` keeps the context "local" in it; everything
// else in it belongs to its owner.
package config
