// Package dbevents counts what a database says of itself while it works: writes
// that stall, slow operations of its disk, damage, failed work in the background.
//
// It knows no database; who opens one calls the methods from its event handlers.
//
// # Invariants
//
//   - No method waits for more than a mutex that nobody holds over I/O, so they may
//     be called with a database's own locks held.
//   - Totals only rise. Time stalled rises while a stall lasts, not at its end.
//
// # Goroutines
//
// None. All methods are safe for concurrent use.
package dbevents
