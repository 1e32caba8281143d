// Package doorway lets two gRPC servers share one listener: one for clients and
// administrators, one for the cluster's own nodes.
//
// gRPC bounds the size of messages per server, and the two need different
// bounds: a client's frame is refused above a few MiB before it is buffered,
// while nodes exchange entries several times as large. They also stop at
// different times: clients are turned away first, peers are needed until
// leaderships are handed over.
//
// A node's connection begins with a knock, four bytes before anything else
// (TLS included). Everything else is a client: HTTP/2 and TLS begin differently.
// The knock proves nothing and grants nothing: it is a signpost, not a lock.
//
// # At the bounds
//
// A connection that says nothing for knockTimeout is closed, and so is a new one
// while maxUndecided of them have said nothing yet, or while MaxClients or
// MaxPeers are open.
//
// # Goroutines and locks
//
// One goroutine accepts, one per undecided connection reads its first bytes.
// Close ends and waits for them. Door.mu is a leaf.
package doorway
