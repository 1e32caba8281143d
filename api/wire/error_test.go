package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

func TestTablesAreComplete(t *testing.T) {
	for _, kind := range kverr.Kinds() {
		if code, ok := codeOf[kind]; !ok || code == codes.OK {
			t.Errorf("kind %v has no status code", kind)
		}
		if _, ok := kvv1.ErrorKind_name[int32(kind)]; !ok {
			t.Errorf("kind %v has no number in kv.v1.ErrorKind", kind)
		}
	}
	if len(codeOf) != len(kverr.Kinds()) {
		t.Errorf("%d status codes for %d kinds", len(codeOf), len(kverr.Kinds()))
	}
	for number, name := range kvv1.ErrorKind_name {
		if number != 0 && !known(kvv1.ErrorKind(number)) {
			t.Errorf("%s has no kind", name)
		}
	}
}

func TestW1_EveryKindSurvives(t *testing.T) {
	for _, kind := range kverr.Kinds() {
		full := &kverr.Error{Kind: kind, Message: "shard 3: what happened", Shard: 3, Node: "n1", RetryAfter: 1500 * time.Microsecond}
		for name, err := range map[string]error{
			"plain":   full,
			"wrapped": fmt.Errorf("put: %w", full),
			"twice":   fmt.Errorf("call: %w", fmt.Errorf("put: %w", full)),
			"joined":  errors.Join(io.EOF, full),
		} {
			for way, got := range map[string]error{
				"message":        ErrorFromProto(ErrorToProto(err)),
				"status, sent":   ErrorFromStatus(StatusFromError(err), MaybeSent),
				"status, unsent": ErrorFromStatus(StatusFromError(err), Unsent),
				"status, rewrap": ErrorFromStatus(fmt.Errorf("rpc: %w", StatusFromError(err)), MaybeSent),
			} {
				var e *kverr.Error
				if !errors.As(got, &e) || e.Kind != kind || !errors.Is(got, kind) {
					t.Errorf("%v, %s, by %s: got %#v", kind, name, way, got)
					continue
				}
				if e.Message != err.Error() || e.Shard != 3 || e.Node != "n1" || e.RetryAfter != 1500*time.Microsecond {
					t.Errorf("%v, %s, by %s: lost a field: %#v", kind, name, way, e)
				}
			}
		}
		if got := ErrorFromProto(ErrorToProto(fmt.Errorf("bare: %w", kind))); kverr.KindOf(got) != kind {
			t.Errorf("bare kind %v came back as %v", kind, got)
		}
		if got := status.Code(StatusFromError(full)); got != codeOf[kind] {
			t.Errorf("%v: code %v, want %v", kind, got, codeOf[kind])
		}
	}
}

func TestNilIsNoError(t *testing.T) {
	if ErrorToProto(nil) != nil || ErrorFromProto(nil) != nil || StatusFromError(nil) != nil || ErrorFromStatus(nil, MaybeSent) != nil {
		t.Error("nil became an error")
	}
}

// What gRPC itself answers, as the caller of a sent write and of a read (or an
// unsent write) has to take it.
func TestW2_StatusWithoutDetails(t *testing.T) {
	for _, tc := range []struct {
		code         codes.Code
		sent, unsent kverr.Kind
	}{
		{codes.Canceled, kverr.OutcomeUnknown, kverr.Deadline},
		{codes.Unknown, kverr.OutcomeUnknown, kverr.Internal},
		{codes.InvalidArgument, kverr.Invalid, kverr.Invalid},
		{codes.DeadlineExceeded, kverr.OutcomeUnknown, kverr.Deadline},
		{codes.NotFound, kverr.OutcomeUnknown, kverr.Internal},
		{codes.AlreadyExists, kverr.OutcomeUnknown, kverr.Internal},
		{codes.PermissionDenied, kverr.Invalid, kverr.Invalid},
		{codes.ResourceExhausted, kverr.OutcomeUnknown, kverr.Overloaded},
		{codes.FailedPrecondition, kverr.OutcomeUnknown, kverr.Internal},
		{codes.Aborted, kverr.OutcomeUnknown, kverr.Internal},
		{codes.OutOfRange, kverr.OutcomeUnknown, kverr.Internal},
		{codes.Unimplemented, kverr.Format, kverr.Format},
		{codes.Internal, kverr.OutcomeUnknown, kverr.Internal},
		{codes.Unavailable, kverr.OutcomeUnknown, kverr.Unavailable},
		{codes.DataLoss, kverr.OutcomeUnknown, kverr.Internal},
		{codes.Unauthenticated, kverr.Invalid, kverr.Invalid},
		{codes.Code(99), kverr.OutcomeUnknown, kverr.Internal},
	} {
		err := status.Error(tc.code, "connection reset")
		for _, wrapped := range []error{err, fmt.Errorf("dial: %w", err)} {
			sent, unsent := ErrorFromStatus(wrapped, MaybeSent), ErrorFromStatus(wrapped, Unsent)
			if kverr.KindOf(sent) != tc.sent || kverr.KindOf(unsent) != tc.unsent {
				t.Errorf("%v: sent %v, unsent %v; want %v, %v", tc.code, kverr.KindOf(sent), kverr.KindOf(unsent), tc.sent, tc.unsent)
			}
			if !strings.Contains(sent.Error(), "connection reset") {
				t.Errorf("%v: the text is lost: %v", tc.code, sent)
			}
		}
		// Passed on as a message by somebody who forgot to say, it must not claim
		// that nothing was applied.
		if got := kverr.KindOf(ErrorFromProto(ErrorToProto(err))); got != tc.sent {
			t.Errorf("%v as a message: %v, want %v", tc.code, got, tc.sent)
		}
		// As a status it stays what it was.
		if got := StatusFromError(err); got != err {
			t.Errorf("%v as a status: %v", tc.code, got)
		}
	}
}

func TestW2_ContextErrors(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code codes.Code
	}{
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		for _, err := range []error{tc.err, fmt.Errorf("put: %w", tc.err), status.Error(tc.code, "put: "+tc.err.Error())} {
			sent, unsent := ErrorFromStatus(err, MaybeSent), ErrorFromStatus(err, Unsent)
			if kverr.KindOf(sent) != kverr.OutcomeUnknown || kverr.KindOf(unsent) != kverr.Deadline {
				t.Errorf("%v: sent %v, unsent %v", err, kverr.KindOf(sent), kverr.KindOf(unsent))
			}
			if !errors.Is(sent, tc.err) || !errors.Is(unsent, tc.err) {
				t.Errorf("%v: the reason is lost", err)
			}
			if got := kverr.KindOf(ErrorFromProto(ErrorToProto(err))); got != kverr.OutcomeUnknown {
				t.Errorf("%v as a message: %v", err, got)
			}
		}
		// Who says what a context's end meant is believed.
		said := kverr.New(kverr.Deadline, "waiting in the queue: %w", tc.err)
		if got := kverr.KindOf(ErrorFromProto(ErrorToProto(said))); got != kverr.Deadline {
			t.Errorf("%v: %v", said, got)
		}
	}
}

func TestErrorsWithoutKind(t *testing.T) {
	if got := ErrorToProto(io.EOF); got.GetKind() != kvv1.ErrorKind_ERROR_KIND_INTERNAL || got.GetMessage() != "EOF" {
		t.Errorf("io.EOF: %v", got)
	}
	if got := status.Code(StatusFromError(io.EOF)); got != codes.Internal {
		t.Errorf("io.EOF has code %v", got)
	}
	if got := kverr.KindOf(ErrorFromStatus(io.EOF, MaybeSent)); got != kverr.OutcomeUnknown {
		t.Errorf("io.EOF of a sent write: %v", got)
	}
	own := fmt.Errorf("refused here: %w", kverr.New(kverr.Overloaded, "queue is full"))
	if got := ErrorFromStatus(own, MaybeSent); got != own {
		t.Errorf("our own error was changed: %v", got)
	}
}

func TestW2_UnknownKind(t *testing.T) {
	for _, kind := range []kvv1.ErrorKind{0, 22, 40, 255, 256, 257, 1 << 20, -1} {
		err := ErrorFromProto(&kvv1.Error{Kind: kind, Message: "from the future"})
		if kverr.KindOf(err) != kverr.OutcomeUnknown || !strings.Contains(err.Error(), fmt.Sprint(int32(kind))) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}

func TestTextFitsTheWire(t *testing.T) {
	for _, text := range []string{
		"key \xff\xfe\x00 is odd", strings.Repeat("é", 4000), strings.Repeat("x", 1024), strings.Repeat("\xff", 5000), "",
	} {
		err := &kverr.Error{Kind: kverr.Invalid, Message: text, Node: "n\xff"}
		pb := ErrorToProto(err)
		if _, marshalErr := proto.Marshal(pb); marshalErr != nil {
			t.Errorf("%.20q: %v", text, marshalErr)
		}
		if len(pb.GetMessage()) > maxMessage || !utf8.ValidString(pb.GetMessage()) || !utf8.ValidString(pb.GetNodeId()) {
			t.Errorf("%.20q became %d bytes, %.40q", text, len(pb.GetMessage()), pb.GetMessage())
		}
		if got := kverr.KindOf(ErrorFromStatus(StatusFromError(err), MaybeSent)); got != kverr.Invalid {
			t.Errorf("%.20q: kind %v after a status", text, got)
		}
	}
	if got := ErrorToProto(&kverr.Error{Kind: kverr.Overloaded, RetryAfter: -time.Second}); got.GetRetryAfterUs() != 0 {
		t.Errorf("a negative wait became %d µs", got.GetRetryAfterUs())
	}
	for _, us := range []uint64{1 << 54, 1 << 63, 1<<64 - 1} {
		var e *kverr.Error
		if !errors.As(ErrorFromProto(&kvv1.Error{Kind: 5, RetryAfterUs: us}), &e) || e.RetryAfter < 100*365*24*time.Hour {
			t.Errorf("a wait of %d µs became %v", us, e.RetryAfter)
		}
	}
}

func FuzzErrorFromProto(f *testing.F) {
	for _, err := range []error{
		kverr.New(kverr.Overloaded, "queue is full"),
		&kverr.Error{Kind: kverr.NotLeader, Shard: 3, Node: "n2", RetryAfter: time.Second},
	} {
		seed, err := proto.Marshal(ErrorToProto(err))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var pb kvv1.Error
		if proto.Unmarshal(data, &pb) != nil {
			return
		}
		err := ErrorFromProto(&pb)
		kind := kverr.KindOf(err)
		if kind == kverr.None {
			t.Fatalf("%v became no error", &pb)
		}
		if !known(pb.GetKind()) && kind != kverr.OutcomeUnknown {
			t.Fatalf("unknown kind %d became %v", pb.GetKind(), kind)
		}
		if got := ErrorFromStatus(StatusFromError(err), MaybeSent); kverr.KindOf(got) != kind {
			t.Fatalf("%v came back as %v", err, got)
		}
	})
}

func TestMessagesOfConnectionErrorsArePlain(t *testing.T) {
	for text, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`: "dial tcp 127.0.0.1:1: connect: connection refused",
		`last error: connection error: desc = "error reading server preface: EOF"`:                                     "error reading server preface: EOF",
		`connection error: desc = "cut off`: `connection error: desc = "cut off`,
		"shard 3: no quorum":                "shard 3: no quorum",
	} {
		var e *kverr.Error
		if err := ErrorFromStatus(status.Error(codes.Unavailable, text), Unsent); !errors.As(err, &e) || e.Message != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}
