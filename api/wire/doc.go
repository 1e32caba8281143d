// Package wire converts between our values and the kv.v1 messages, and between
// kverr errors and what gRPC carries.
//
// It does no I/O and keeps nothing. What comes in is validated here and nowhere
// else: a FromProto function returns either a value that the rest of the program
// may rely on or an error of kind Invalid. What goes out is taken on trust, but
// text is made fit to travel (valid UTF-8, bounded).
//
// # Errors
//
// Errors are told apart by kind, never by text. A kind has one number in
// kv.v1.ErrorKind and one gRPC status code (the table in status.go); the code is
// for other people's tools, our own side reads the kv.v1.Error in the status
// details. Invariants:
//
//   - W1: every kind survives the way through a message and through a status,
//     also when the error was wrapped on the way.
//   - W2: no conversion turns "may have been applied" into "not applied". A
//     status that gRPC itself made (Unavailable, Canceled, DeadlineExceeded, …)
//     does not say whether the request was delivered; only the caller knows
//     whether it was a write and had been sent, and has to say so. A context's
//     error without a kind, and a kind that this build does not know, count as
//     OutcomeUnknown.
package wire
