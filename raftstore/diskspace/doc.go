// Package diskspace keeps a node alive on a disk that runs full: it watches the
// free space, keeps a reserve that the databases' essential files can fall back on,
// and says how much the node may still take on.
//
// It refuses no client and no peer itself; its owner asks Level. It does not free
// space, except for its own ballast.
//
// # Levels
//
// OK, Low and Critical, by the free space, with hysteresis: a level is left only
// when a quarter more is free than where it began. Low begins at LowBytes, Critical
// at half of that. Below a quarter of it is the reserve: tables (results of flushes
// and compactions, received snapshots) may not be written into it. A flush that
// fails is repeated, while a write-ahead log, a manifest or a vote that meets a
// full disk ends the process; so they get the last bytes.
//
// The free space is looked at once a second and after each MiB that is written
// through FS, so what the node itself writes does not outrun it.
//
// # Ballast
//
// A file that takes up real space. The first write that meets a full disk waits
// while it is removed and is then repeated (vfs.OnDiskFull). It is made again when
// there is room for it, at once where the file system gives space that is not
// written, otherwise when there has been room for a while. A write that meets a full
// disk without a ballast, or whose ballast others took, waits FullPatience for space
// before it fails: whoever filled the disk often meets the same error and cleans up.
//
// # What the caller owes
//
// All that is written to the directory goes through FS. Start comes after the
// databases are open (until then tables may use the reserve: opening replays, and
// waits while the disk is full), and
// Close before they are closed. A file system that cannot tell its free space
// (vfs.MemFS) is taken to have enough, always.
//
// # Goroutines and locks
//
// One goroutine looks each second and makes the ballast; Close waits for it. A
// table that waits for room waits without a lock, for at most a second; a write to a
// full disk may wait with Pebble's locks held, for FullPatience. One lock is
// held while the free space is asked for; those who write wait for it only when the disk
// is full.
package diskspace
