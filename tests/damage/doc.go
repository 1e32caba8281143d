// Package damage damages the files of a stopped node, one byte or one cut at a
// time, and judges what a cluster with that node in it answers: never a wrong value,
// never "not found" for what was acknowledged, and everything again once the other
// nodes are a majority without it.
//
// A cluster is loaded and stopped once (base.go): one node (the laggard) was cut off
// before the last writes, so that the node to be damaged and a third one hold them
// alone. Every trial takes copies of the three disks, damages a file of one of
// them (vandal.go), starts that node and the laggard only, reads everything, starts
// the third and reads everything again. A log whose loss went unnoticed would let the
// first two elect a leader without the last writes.
//
// What may happen to the damaged node is anything but a lie: it may refuse to start,
// end by itself, quarantine a replica, or not notice. The report counts it by kind
// of file.
//
// Not covered: damage within a second of a crash. The high-water mark that tells
// the loss of a log's end is refreshed once a second (raftstore/logstore, L3).
package damage
