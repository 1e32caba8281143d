package wire

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/status"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

// maxMessage bounds an error's message in bytes. A status travels in HTTP/2
// trailers, message and details both, and peers commonly take 8 KiB of those.
const maxMessage = 1024

// ErrorToProto returns the message of an error; nil for nil. The kind is that of
// the outermost *kverr.Error or kverr.Kind in the chain, the text is the whole
// error's. Of errors that nobody gave a kind, a context's and those of a failed
// RPC are OutcomeUnknown (W2), any other is Internal.
func ErrorToProto(err error) *kvv1.Error {
	if err == nil {
		return nil
	}
	pb := &kvv1.Error{Kind: kvv1.ErrorKind(kindOf(err)), Message: clean(err.Error(), maxMessage)}
	var e *kverr.Error
	if errors.As(err, &e) {
		pb.RetryAfterUs = uint64(max(e.RetryAfter, 0).Microseconds())
		pb.Shard = e.Shard
		pb.NodeId = clean(e.Node, maxText)
	}
	return pb
}

// kindOf is kverr.KindOf, but truthful (W2) about errors that nobody gave a kind.
func kindOf(err error) kverr.Kind {
	if hasKind(err) {
		return kverr.KindOf(err)
	}
	if isContext(err) {
		return kverr.OutcomeUnknown
	}
	if st, ok := status.FromError(err); ok {
		return kindOfCode(st.Code(), MaybeSent)
	}
	return kverr.Internal
}

func hasKind(err error) bool {
	var e *kverr.Error
	var k kverr.Kind
	return errors.As(err, &e) || errors.As(err, &k)
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// ErrorFromProto returns the error of a message, a *kverr.Error; nil for nil. A
// kind that this build does not know is OutcomeUnknown (W2).
func ErrorFromProto(pb *kvv1.Error) error {
	if pb == nil {
		return nil
	}
	kind, message := kverr.Kind(pb.GetKind()), pb.GetMessage()
	if !known(pb.GetKind()) {
		kind = kverr.OutcomeUnknown
		message = fmt.Sprintf("error of unknown kind %d: %s", pb.GetKind(), message)
	}
	return &kverr.Error{
		Kind:       kind,
		Message:    message,
		Shard:      pb.GetShard(),
		Node:       pb.GetNodeId(),
		RetryAfter: durationFromMicros(pb.GetRetryAfterUs()),
	}
}

// known reports whether this build has the kind; it need not be one of those
// that kv.proto lists. None is not the kind of an error.
func known(k kvv1.ErrorKind) bool {
	if k <= 0 || k > math.MaxUint8 {
		return false
	}
	_, known := codeOf[kverr.Kind(k)]
	return known
}

func durationFromMicros(us uint64) time.Duration {
	const most = uint64(math.MaxInt64 / time.Microsecond)
	return time.Duration(min(us, most)) * time.Microsecond
}

// clean makes text fit for a proto string field, which must be UTF-8 (messages
// may quote binary keys), and cuts it to at most limit bytes.
func clean(s string, limit int) string {
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	if len(s) <= limit {
		return s
	}
	const more = "…"
	cut := limit - len(more)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}
