// Package diskhealth notices operations of a disk that take long.
//
// Pebble has the like, but only for a file system that it chooses itself, on a
// clock of its own, and with a goroutine for each file. This one times what a
// given vfs.FS is asked to write, create, rename, remove and sync; reads are left
// out, since nothing that is written waits for them.
//
// It changes, repeats and refuses nothing.
//
// # Duties of the caller
//
// Look should be called several times within the limit: it is how an operation is
// noticed that has not ended. One that ends is noticed anyway.
//
// # Invariants
//
//   - Each slow operation is told of once, whether or not it ends.
//   - A file has one operation at a time, as Pebble's have. With several at once
//     nothing breaks, and the latest counts.
//
// # Goroutines and locks
//
// None of its own. The callback runs on the goroutine that asked the disk, or that
// called Look; no lock is held then.
package diskhealth
