// Package localtest is a stand-in for kvnode in tests of what runs and uses
// nodes: a real process with kvnode's flags, exit codes, files and services,
// and no storage behind it.
//
// It does not replicate: node n1 leads everything and keeps values in memory,
// as long as it lives. The nodes of a cluster share a file in the directory
// above their data directories, which says that the cluster was formed.
//
// A test binary becomes a node by calling Main before anything else when the
// variable Env is set. Keys that begin with "doubt" get the answer "outcome
// unknown", with "noquorum" "unavailable", with "refused" "invalid", with "slow"
// none: that one has arrived is seen by the file "slow" beside the data directory.
//
// The goroutines of a node end with its process.
package localtest
