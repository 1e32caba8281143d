// Package contract holds black-box tests of the data contract on real kvnode
// processes in trouble: nodes are killed with SIGKILL and started again,
// leaderships are handed around, and connections are reset in the moment that an
// answer comes in, which is lost with them.
//
// TestAddsCountOnce increments counters and wants every number exactly once.
// TestWatchesMissNothing writes numbered changes and wants every watch to show, of
// each key, the numbers as they were written: none left out, repeated, out of
// order, or torn from its atomic group.
//
// Both are small in make test; make contract runs them at full size. A run states
// the faults that it had, and fails when there were too few: the load waits for
// them.
package contract
