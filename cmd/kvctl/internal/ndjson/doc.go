// Package ndjson has the lines that kvctl exports and imports, one {"key","value"}
// object each. It writes records from them into a store with many writes in flight,
// and reads them back to compare.
//
// It does not open files or clusters, print, or choose exit codes; the caller
// gives it a reader, a Store and a context, and shows the result.
//
// # Rules
//
// I1: writes of one key are sent in the order of their lines, each after the
// one before it has its answer, so that the last line wins.
//
// I2: a record counts as acknowledged, and is written to the acks, only after
// the store said so; a write that may have happened counts as in doubt and
// never as failed.
//
// I3: a line is taken as it was meant or refused with its number; text that is
// not Unicode is refused, not repaired. What AppendLine has written is read back to
// the same bytes.
//
// # Goroutines and locks
//
// Load and Verify start workers and wait for them before they return. What is
// in flight is bounded by count and by bytes; at the bound, reading waits.
package ndjson
