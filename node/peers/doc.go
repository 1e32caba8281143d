// Package peers knows where the other nodes are and keeps one connection to each.
//
// It does not decide who is a member: addresses come from gossip, from the shard
// map and from a plan, in that order of trust, since a restarted node is heard by
// gossip first. All are hints; every RPC carries the cluster's id and the other
// side checks it.
//
// The caller feeds the Book, closes the Pool last of all users, and never closes
// a connection itself.
//
// At the bounds: connections are at most one per address known, and addresses
// are bounded by gossip's view and the map. A node whose address changed gets a
// new connection; what was under way on the old one fails.
//
// Locks: Book.mu and Pool.mu are leaves; nothing is dialled under them.
package peers
