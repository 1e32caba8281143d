package wire

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

// codeOf gives each kind its status code. Codes are for tools that know nothing
// of kinds, and generic retry middleware repeats what is Unavailable: so only
// kinds that mean "not applied, try again as it is" have that code, and
// OutcomeUnknown has one that nobody repeats.
var codeOf = map[kverr.Kind]codes.Code{
	kverr.Invalid:        codes.InvalidArgument,
	kverr.WrongShard:     codes.Aborted, // repeat after routing again
	kverr.NotLeader:      codes.Aborted,
	kverr.Unavailable:    codes.Unavailable,
	kverr.Overloaded:     codes.ResourceExhausted,
	kverr.OutcomeUnknown: codes.Unknown,
	kverr.Expired:        codes.FailedPrecondition,
	kverr.StaleDuplicate: codes.FailedPrecondition,
	kverr.Deadline:       codes.DeadlineExceeded,
	kverr.NotInitialized: codes.FailedPrecondition,
	kverr.WrongCluster:   codes.FailedPrecondition,
	kverr.Format:         codes.Unimplemented,
	kverr.Internal:       codes.Internal,
	kverr.Closed:         codes.Unavailable,
	kverr.Conflict:       codes.AlreadyExists,
	kverr.NoSpace:        codes.ResourceExhausted,
	kverr.CondFailed:     codes.FailedPrecondition,
	kverr.CrossSlot:      codes.InvalidArgument,
	kverr.Compacted:      codes.OutOfRange,
	kverr.NotANumber:     codes.FailedPrecondition,
	kverr.Overflow:       codes.OutOfRange,
}

// StatusFromError returns the gRPC status error of an error, with the kv.v1.Error
// in its details; nil for nil. A status that nobody gave a kind (of gRPC itself or
// of an interceptor) is returned as it is.
func StatusFromError(err error) error {
	if err == nil {
		return nil
	}
	if _, isStatus := status.FromError(err); isStatus && !hasKind(err) {
		return err
	}
	pb := ErrorToProto(err)
	st := status.New(codeOf[kverr.Kind(pb.GetKind())], pb.GetMessage())
	detailed, detailErr := st.WithDetails(pb)
	if detailErr != nil {
		// Only a message that cannot be encoded gets here; clean prevents it.
		return st.Err()
	}
	return detailed.Err()
}

// Sent says what the caller of a failed RPC knows about its request; a status
// without details cannot be read truthfully without it.
type Sent bool

const (
	// Unsent: the request changes nothing (a read), or it certainly never left.
	Unsent Sent = false
	// MaybeSent: the request may have reached a server that acts on it.
	MaybeSent Sent = true
)

// ErrorFromStatus returns what an RPC's error means to us: an error with a kind;
// nil for nil. An error that has a kind keeps it, in a kv.v1.Error in the status
// details or in its own chain. Every other was made by gRPC, a proxy or the
// caller's context; then sent decides between OutcomeUnknown and what the code
// suggests. The result's chain holds context.Canceled or
// context.DeadlineExceeded when that was the reason.
func ErrorFromStatus(err error, sent Sent) error {
	if err == nil || hasKind(err) {
		return err
	}
	st := statusOf(err)
	for _, detail := range st.Details() {
		if pb, ok := detail.(*kvv1.Error); ok {
			return ErrorFromProto(pb)
		}
	}
	e := &kverr.Error{Kind: kindOfCode(st.Code(), sent), Message: plainMessage(st.Message()), Err: err}
	switch st.Code() {
	case codes.Canceled:
		e.Err = context.Canceled
	case codes.DeadlineExceeded:
		e.Err = context.DeadlineExceeded
	}
	return e
}

// plainMessage takes off what gRPC wraps around the words of the operating
// system, which says enough to people.
func plainMessage(message string) string {
	const head = "connection error: desc = "
	i := strings.LastIndex(message, head)
	if i < 0 {
		return message
	}
	inner, err := strconv.Unquote(message[i+len(head):])
	if err != nil {
		return message
	}
	return strings.TrimPrefix(strings.TrimPrefix(inner, "transport: "), "Error while dialing: ")
}

// statusOf is status.FromError, which has never heard of context errors.
func statusOf(err error) *status.Status {
	st, ok := status.FromError(err)
	switch {
	case ok:
		return st
	case errors.Is(err, context.Canceled):
		return status.New(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.New(codes.DeadlineExceeded, err.Error())
	}
	return st // code Unknown
}

// kindOfCode reads the code of a status without details. The first two cases say
// of themselves that no handler of ours has acted. All others may hide a
// connection that broke after the request was delivered, or an answer that was
// lost, for instance for its size.
func kindOfCode(code codes.Code, sent Sent) kverr.Kind {
	switch code {
	case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied:
		return kverr.Invalid
	case codes.Unimplemented:
		return kverr.Format // an older server, or none of ours
	}
	if sent == MaybeSent {
		return kverr.OutcomeUnknown
	}
	switch code {
	case codes.Unavailable:
		return kverr.Unavailable
	case codes.ResourceExhausted:
		return kverr.Overloaded
	case codes.Canceled, codes.DeadlineExceeded:
		return kverr.Deadline // the caller's time ended
	}
	return kverr.Internal
}
