// Package kvop translates between the data API's operations and the shards': a
// kv.v1.Operation that writes becomes a state.Op, a state.Result becomes a
// kv.v1.Answer or the error that refuses it.
//
// It keeps nothing, decides nothing about data and does not route. It is shared by
// the node's server and by client/kvtest, so that a test server cannot be kinder
// than a node. What comes in is not trusted: Check refuses what has no translation
// or could never be applied, and Write must be given nothing else. Messages and
// operations share their bytes.
package kvop
