package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/cluster/local"
	"github.com/ringfort/ringfort/internal/kverr"
)

// The exit codes. Scripts rely on them: append only.
const (
	exitOK              = 0
	exitOther           = 1
	exitUsage           = 2
	exitNotFound        = 3
	exitConflict        = 4
	exitUnavailable     = 5
	exitTimeout         = 6
	exitOutcomeUnknown  = 7
	exitUnauthenticated = 8 // reserved: nothing exits with it yet
	exitUnhealthy       = 9
	exitDiffer          = 10
	exitUnverified      = 11
	exitNoSpace         = 12
	exitCondition       = 13
	exitCompacted       = 14
	exitInterrupted     = 130
)

const exitCodesHelp = `Exit codes of kvctl:

    0  the command did what it says
    1  another error
    2  usage: an unknown verb or flag, a wrong argument, or bad input
    3  not found: the key has no value, there is no such cluster or node
    4  conflict: it exists already, or is not in a state for it; add: the value is
       no 64-bit number, or the sum would not be one
    5  unavailable: no node or no leader could serve, or the cluster is overloaded
    6  timeout: the time was over before an answer came, and no node has said why; a
       write had not been sent then: one that had been ends with 7
    7  outcome unknown: the write may or may not have been applied
    8  unauthenticated (reserved)
    9  unhealthy: --verify-only found differences, a cluster does not serve all keys
   10  replicas differ: cluster verify found replicas of a shard that are not equal
   11  not verified: cluster verify could not compare all replicas; none differ so far
   12  no space: the disk of the key's leader is full, or those of a majority; reads
       go on, and deletes as long as the message says
   13  condition failed: --if-absent, --if-present or --if-version did not hold, and
       nothing was changed; txn: a compare did not hold, and "else" was applied
   14  compacted: the changes that a watch would go on from are no longer remembered
  130  interrupted; a watch or logs -f that is interrupted ends with 0

With 3, 4, 5, 6 and 12 a write was certainly not applied, nor was a put or del with
13. After 7, read the key to find out, or repeat the command: writing the same value
again does no harm, but an add or a txn might be applied twice, and a condition might
meet the command's own write. The message of an interrupted command says if a write
is in doubt.`

// errInterrupted is the cause of the context's end after an interrupt.
var errInterrupted = errors.New("interrupted")

// commandError is an error whose exit code a verb has chosen.
type commandError struct {
	code int
	err  error
	hint string
}

func (e *commandError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *commandError) Unwrap() error { return e.err }

func usageErrorf(hint, format string, args ...any) error {
	return &commandError{code: exitUsage, err: fmt.Errorf(format, args...), hint: hint}
}

// exitCode chooses by the kind of the error (K2).
func exitCode(ctx context.Context, err error) int {
	var chosen *commandError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(context.Cause(ctx), errInterrupted) || errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.As(err, &chosen):
		return chosen.code
	case errors.Is(err, client.ErrInDoubt):
		return exitOutcomeUnknown
	}
	if code, found := codeByKind(err); found {
		return code
	}
	var refused *local.FlagsError
	if errors.As(err, &refused) {
		return exitUsage
	}
	var notReady *local.NotReadyError
	if errors.As(err, &notReady) {
		return exitUnhealthy
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return exitTimeout
	}
	return exitOther
}

// exitTable is tried from top to bottom: an error may be of several kinds, such
// as a timeout whose last cause was a missing leader.
var exitTable = []struct {
	code    int
	targets []error
}{
	{exitOutcomeUnknown, []error{kverr.OutcomeUnknown}},
	{exitUsage, []error{client.ErrInvalid, kverr.Invalid, kverr.CrossSlot}},
	{exitNotFound, []error{client.ErrNotFound, local.ErrNoCluster, local.ErrUnknownNode}},
	{exitConflict, []error{kverr.Conflict, local.ErrNotRunning}},
	{exitConflict, []error{client.ErrNotANumber, client.ErrOverflow, kverr.NotANumber, kverr.Overflow}},
	{exitCondition, []error{client.ErrConditionFailed, kverr.CondFailed}},
	{exitCompacted, []error{client.ErrCompacted, kverr.Compacted}},
	{exitUnavailable, []error{client.ErrUnavailable, client.ErrOverloaded, client.ErrNotInitialized}},
	{exitNoSpace, []error{client.ErrNoSpace, kverr.NoSpace}},
	{exitUnavailable, []error{kverr.Unavailable, kverr.Overloaded, kverr.NotLeader, kverr.WrongShard}},
	{exitUnavailable, []error{kverr.NotInitialized, kverr.Closed}},
	{exitTimeout, []error{client.ErrTimeout, kverr.Deadline}},
}

func codeByKind(err error) (code int, found bool) {
	// The client has weighed what happened; its causes would tell a part of it.
	if told := (*client.Error)(nil); errors.As(err, &told) {
		if told.Kind == client.ErrTimeout && noService(told.Err) {
			return exitUnavailable, true
		}
		err = told.Kind
	}
	for _, row := range exitTable {
		for _, target := range row.targets {
			if errors.Is(err, target) {
				return row.code, true
			}
		}
	}
	return 0, false
}

// noService reports whether a call that ran out of time did so because nobody
// could serve it, rather than because its answer was slow.
func noService(lastCause error) bool {
	switch kverr.KindOf(wire.ErrorFromStatus(lastCause, wire.Unsent)) {
	case kverr.Unavailable, kverr.NotLeader, kverr.WrongShard, kverr.Overloaded, kverr.NotInitialized, kverr.Closed:
		return true
	}
	return false
}

// hintFor says what a person could do next; empty if there is nothing to say.
func (a *app) hintFor(err error) string {
	var chosen *commandError
	var died *local.StartError
	var notReady *local.NotReadyError
	var refused *local.FlagsError
	switch {
	case errors.As(err, &refused):
		return "kvnode --help lists the flags; those from before are kept"
	case errors.As(err, &chosen) && chosen.hint != "":
		return chosen.hint
	case errors.Is(err, errInterrupted):
		return ""
	case errors.Is(err, client.ErrInDoubt), errors.Is(err, kverr.OutcomeUnknown):
		if told := (*client.Error)(nil); errors.As(err, &told) && (told.Op == "add" || told.Op == "txn") {
			return "read the key to find out; repeated, the command might be applied twice"
		}
		return "read the key to find out, or repeat the command: writing the same value again does no harm"
	case errors.Is(err, client.ErrCompacted):
		return "read the keys again: kvctl watch --resync does, and goes on; kvctl scan --report gives a token to go on from"
	case errors.Is(err, client.ErrCrossSlot):
		return "keys lie together if they share a hash tag, as {user17}/name and {user17}/mail do"
	case errors.Is(err, client.ErrNotInitialized), errors.Is(err, kverr.NotInitialized):
		return "form the cluster with: kvctl cluster init"
	case errors.Is(err, client.ErrWrongCluster), errors.Is(err, kverr.WrongCluster) && a.target.ClusterID != "":
		return "the address was taken over by another cluster: kvctl local up corrects the context of a local one, " +
			"--endpoints goes past contexts"
	case errors.Is(err, local.ErrNoCluster):
		return "start one with: " + a.localHint("up")
	case errors.Is(err, local.ErrNoBinary):
		return "build it with: make build (or name it with --node-binary)"
	case errors.As(err, &died):
		return a.startHint(died)
	case errors.As(err, &notReady):
		return "look with: " + a.localHint("status") + ", " + a.localHint("logs")
	case errors.Is(err, client.ErrNoSpace), errors.Is(err, kverr.NoSpace):
		return "kvctl cluster status says which nodes need disk space and what to do, kvctl cluster nodes how much each has"
	case len(a.target.Endpoints) > 0 && exitCode(context.Background(), err) == exitUnavailable:
		return a.unavailableHint(err)
	case a.nobodyAnswered(err):
		return fmt.Sprintf("no node has answered at %s (from %s): is it a node, and is it paused or overloaded? "+
			"--timeout allows more time", strings.Join(a.target.Endpoints, ", "), a.target.From)
	case errors.Is(err, client.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return "allow more time with --timeout"
	}
	return ""
}

// nobodyAnswered: the time ran out before the client had met any node.
func (a *app) nobodyAnswered(err error) bool {
	var told *client.Error
	return errors.As(err, &told) && told.Kind == client.ErrTimeout && told.Attempts == 0 && told.Node == "" && len(a.target.Endpoints) > 0
}

func (a *app) unavailableHint(err error) string {
	if told := (*client.Error)(nil); errors.As(err, &told) && told.Attempts > 0 {
		return "kvctl cluster status shows which nodes and leaders are missing"
	}
	if told := (*answered)(nil); errors.As(err, &told) {
		return "kvctl cluster status shows which nodes and leaders there are"
	}
	return a.runningHint()
}

func (a *app) runningHint() string {
	return fmt.Sprintf("is the cluster running? The endpoints %s come from %s",
		strings.Join(a.target.Endpoints, ", "), a.target.From)
}

func (a *app) startHint(died *local.StartError) string {
	if died.ExitCode == 2 {
		return "the node refused its flags; those after -- are remembered until others are given: " + a.localHint("up") +
			" -- with nothing behind it forgets them"
	}
	return startHints[died.ExitCode]
}

// startHints go by kvnode's exit code.
var startHints = map[int]string{
	3: "another process uses the data directory: look for a kvnode that still runs",
	5: "the data directory belongs to another cluster or was written by a newer version",
	6: "the disk failed: look at its log, and at the file system",
}

// complain prints an error and what to do about it. Further lines of an error,
// for instance of several faults, stand below the first.
func (a *app) complain(err error) {
	fmt.Fprintf(a.stderr, "error: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n       "))
	if hint := a.hintFor(err); hint != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", hint)
	}
}

// note tells a person about the progress of a command.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}
