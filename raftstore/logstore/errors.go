package logstore

import (
	"errors"
	"fmt"

	"github.com/ringfort/ringfort/internal/kverr"
)

// CorruptError says that the database lost or damaged what it had acknowledged.
// Open returns it inside a *kverr.Error of kind Internal. The node must not vote
// with such a log: its data directory has to be wiped, and the node joins as a
// new one.
type CorruptError struct {
	Group uint64 // 0 when it concerns the whole database
	What  string // "last index", "current term", …; empty when Detail says it all
	Have  uint64 // the figure found
	Want  uint64 // the figure that was acknowledged
	// Detail says what is wrong where no two figures can.
	Detail string
}

// Error names the group and the figures.
func (e *CorruptError) Error() string {
	what := e.Detail
	if e.What != "" {
		what = fmt.Sprintf("%s is %d, but %d was acknowledged", e.What, e.Have, e.Want)
	}
	if e.Group == 0 {
		return what
	}
	return fmt.Sprintf("group %d: %s", e.Group, what)
}

const corruptAdvice = "do not start this node on it: wipe the data directory and let the node join as a new one"

func corrupt(dir string, e *CorruptError) error {
	err := kverr.New(kverr.Internal, "logstore: log database in %s is corrupt: %w; %s", dir, e, corruptAdvice)
	err.Shard = e.Group
	return err
}

// refusal is an answer to one caller; any other error of the writer is the end.
type refusal struct{ error }

func refuse(kind kverr.Kind, group uint64, format string, args ...any) error {
	err := kverr.New(kind, "logstore: group %d: %w", group, fmt.Errorf(format, args...))
	err.Shard = group
	return refusal{err}
}

// errUnanswered is what submit says when no answer will ever come: the database
// is dead or closed.
var errUnanswered = errors.New("logstore: dead or closed")
