// Package adminhttp is a node's HTTP listener for those who look after it:
// metrics, liveness and readiness, profiles. It serves no data and changes
// nothing.
//
//	/metrics         Prometheus text format
//	/healthz         200 while the process answers
//	/readyz          200 while the node serves; ?verbose adds the shards
//	/shards          200 while every replica here can serve or knows who does
//	/debug/pprof/    profiles of net/http/pprof
//
// It does not know what it shows: the node hands in functions. They must be
// callable from the moment Start is called until Close has returned, and must not
// wait for the disk, since a node with a hung disk is the one to be looked into.
//
// # Duties of the caller
//
// The listener must not be reachable by strangers: nobody is asked who they are,
// and a profile costs time. Package config refuses others unless told --insecure.
//
// # Bounds
//
// At most 64 connections; more wait in the kernel's queue. A request has 5 s to
// bring its header of at most 16 KiB, an answer 30 s to be taken beside the time
// that a profile was asked to run, at most 5 minutes. Only GET and HEAD.
//
// # Goroutines
//
// Those of net/http. Close waits for all handlers; profiles in progress end early.
package adminhttp
