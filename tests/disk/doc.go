// Package disk holds black-box tests of real kvnode processes whose disks hang or
// run full: what virtual time cannot have (rule M1), because a thread that waits in
// the kernel is not a goroutine that waits.
//
// A disk that hangs is a FUSE file system that passes everything on to a directory
// and, when told to, lets no fsync return. It is served by a process of its own
// (this test binary under another role), so that it can be ended by killing it. A
// full disk is a small tmpfs with a large file on it.
//
// They need root, for the mounts, and minutes, so they run only with -disk.faults,
// which make fault-disk gives. The test process then runs itself again in a mount
// namespace of its own: no mount is seen by others, and none outlives it, whatever
// ends it. Nodes and file servers are killed by the kernel when it dies.
//
// The bounds in seconds are the product's promises (2 s, 15 s, 30 s) with room for
// a busy machine; the figures themselves are logged, and stand in
// docs/performance.md.
package disk
