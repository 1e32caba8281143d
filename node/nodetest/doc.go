// Package nodetest runs a whole cluster inside one process: real nodes on
// in-memory disks that can crash, in-memory connections that can be cut, and an
// in-memory gossip. It is for tests, of this module only, inside a
// testing/synctest bubble or outside.
//
// It checks nothing; tests do. It simulates no disk slowness: Pebble holds a
// mutex over some file operations, and a goroutine that waits for a mutex stops a
// bubble's time (rule M1).
//
// A crash (rule M2) severs the node's connections, then takes the crash clone of
// its disk, then closes the old node on the discarded disk. So nothing that the
// clone may lack has left the node.
//
// # Goroutines and locks
//
// Each server has one goroutine in Node.Run. Start registers a cleanup that stops
// all. Network.mu and hub.mu are leaves.
package nodetest
