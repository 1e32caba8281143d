// Package local runs a cluster of real kvnode processes on this machine: it
// starts, pauses, kills, restarts and stops them, and remembers them in a
// directory, so that any later process can go on with the same cluster.
//
// It does not run nodes inside the caller (a kill must be a real kill), does
// not supervise (a dead node stays dead until somebody starts it), and knows
// nothing of the data path. It needs Linux: processes are identified through
// /proc and signalled through pidfds.
//
// # Layout of a cluster directory
//
//	D/cluster.json   what was started: names, addresses, processes (format 1)
//	D/lock           held while nodes are started or stopped
//	D/nK/data        the node's data directory
//	D/nK/log         its standard output and error, appended to across starts
//
// # Rules
//
// LC1: a signal goes only to a process that this directory's file names and
// that still is the same process: pid, kernel start time and boot id agree, and
// the check is made on a pidfd, so that a reused pid can never be hit.
//
// LC2: the file is replaced whole or not at all, and a node that was started
// by a caller that died before it could write the file is found again by the
// data directory on its command line.
//
// LC3: nodes outlive their starter: each is the leader of a session of its own
// and holds no descriptor of the starter's terminal.
//
// # Goroutines and locks
//
// The package starts goroutines only inside calls that wait for them. A Cluster
// holds no resources and is safe for concurrent use, also by several
// processes: Up, Restart, Stop and Down exclude each other by the lock file,
// while Kill, Pause, Resume, Status and Logs never wait for it. Up also takes a
// lock of the whole machine while it chooses ports, so that two clusters
// starting at once do not choose the same ones; it is always taken after the
// directory's.
package local
