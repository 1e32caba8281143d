// Package cli is the command line of kvctl: its verbs, what they print, and
// what they exit with.
//
// It holds no logic of the store: package client does the data, package local
// the processes, ndjson and bench the loads, config the settings.
//
// # Rules
//
// K1: data goes to standard output and everything else to standard error, so
// that what a pipe gets is what was asked for.
//
// K2: an exit code says what happened, by a table that `kvctl help exit-codes`
// prints; it is chosen by the kind of an error and never by its text. A write
// that may have happened exits with 7, whatever else went wrong.
//
// K3: what is on standard output is the same whether it is a terminal or not, and can
// be read in one way only: where fields share a line, bytes that could be taken for
// something else are quoted. What is not the whole does not look like it: an error
// leaves a JSON array open, and only the last change of a group has a token.
//
// # Goroutines and locks
//
// Run starts one goroutine, which turns the first interrupt into the end of the
// context, and waits for it. Verbs own what they start.
package cli
