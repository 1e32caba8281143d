package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

func (a *app) txnCommand() *cobra.Command {
	var f coding
	cmd := &cobra.Command{
		Use:        "txn [FILE|-]",
		SuggestFor: []string{"multi", "transaction", "batch", "transact"},
		Short:      "Change keys of one slot together, if conditions hold",
		Long: `Read a transaction from a file or standard input, and apply it as one write: if all
compares hold the operations of "then", otherwise those of "else", all or none, and
exactly once. All keys must lie in one slot, which those do that share a hash tag:
{user17}/name and {user17}/mail.

As text, a line each; words with spaces or bytes that are not printable are quoted
as in Go ("a b\x00") or between '…', # begins a comment:

  if:
    version KEY = N          also != < >; a key that does not exist has version 0
    value KEY = VALUE        also != < >; by bytes
    absent KEY
    present KEY
  then:
    put KEY VALUE [--ttl D | --keep-ttl] [--prev]
    del KEY [--prev]
    add KEY N
    get KEY
    expire KEY D
    persist KEY
  else:
    …

"then:" may be left out if there is nothing else. --hex and --base64 hold for keys and
values of this form, and for what is printed. As JSON the same, where key_base64 and
value_base64 (or _hex) stand for bytes that are no text:

  {"if":   [{"key": "{a}/lock", "absent": true},
            {"key": "{a}/n", "version": 17},
            {"key": "{a}/state", "is": "!=", "value": "closed"}],
   "then": [{"op": "put", "key": "{a}/lock", "value": "me", "ttl": "30s"},
            {"op": "add", "key": "{a}/n", "by": 1}],
   "else": [{"op": "get", "key": "{a}/lock"}]}

Prints a line for each operation that was applied: its name, the key, and OK, the
number, the value, or (none), with tabs between. -o json prints succeeded, version
and results. Exit code 13 means that a compare did not hold: then "else" was
applied.`,
		Example: `  kvctl txn <<'END'
  if:
    value {acc}/a > 099
  then:
    add {acc}/a -100
    add {acc}/b 100
  else:
    get {acc}/a
  END
  printf 'put {u1}/name Ada\nput {u1}/mail ada@example.org\n' | kvctl txn
  kvctl txn move.json -o json`,
		Args:        atMostOne("FILE"),
		Annotations: map[string]string{needsTarget: "", outputs: "table json ndjson"},
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.readTxn(cmd.Context(), f, args)
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				return a.commit(ctx, c, f, t)
			})
		},
	}
	f.register(cmd)
	return cmd
}

// transaction is what was read, in either form.
type transaction struct {
	compares        []client.Compare
	then, otherwise []operation
}

// operation is one of a transaction's, with the word for it.
type operation struct {
	name     string
	previous bool // its result has the value before
	op       client.Op
}

func ops(list []operation) []client.Op {
	all := make([]client.Op, len(list))
	for i := range list {
		all[i] = list[i].op
	}
	return all
}

func (a *app) readTxn(ctx context.Context, c coding, args []string) (t *transaction, err error) {
	name, input := "standard input", io.Reader(interruptible{ctx, a.stdin})
	if len(args) > 0 && args[0] != "-" {
		name = args[0]
		file, err := os.Open(name)
		if err != nil {
			return nil, usageErrorf("", "%w", err)
		}
		defer file.Close()
		input = interruptible{ctx, file}
	}
	text, err := io.ReadAll(io.LimitReader(input, maxStdin+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case len(text) > maxStdin:
		return nil, usageErrorf("", "%s has more than %d MiB", name, maxStdin>>20)
	}
	if _, err := c.decode("", ""); err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		t, err = parseTxnJSON(text)
	} else {
		t, err = parseTxnText(c, string(text))
	}
	if err == nil && len(t.then)+len(t.otherwise) == 0 {
		err = fmt.Errorf("there is no operation")
	}
	if err != nil {
		return nil, usageErrorf("kvctl txn --help shows both forms", "%s: %w", name, err)
	}
	return t, nil
}

func (a *app) commit(ctx context.Context, c *client.Client, f coding, t *transaction) error {
	session := client.NewSession()
	result, err := c.Txn().If(t.compares...).Then(ops(t.then)...).Else(ops(t.otherwise)...).Commit(ctx, client.WithSession(session))
	if err != nil {
		return err
	}
	applied := t.then
	if !result.Succeeded {
		applied = t.otherwise
	}
	if err := a.printTxn(f, applied, result, session); err != nil {
		return err
	}
	switch {
	case result.Succeeded:
		return nil
	case len(t.otherwise) == 0:
		return &commandError{code: exitCondition, err: fmt.Errorf("txn: condition failed: nothing was changed")}
	}
	return &commandError{code: exitCondition, err: fmt.Errorf(`txn: condition failed: "else" was applied`)}
}

func (a *app) printTxn(f coding, applied []operation, r client.TxnResult, session *client.Session) error {
	if r.ResultsLost {
		a.note("what the operations answered is not known: an earlier attempt was applied, and the answers are too large to be remembered")
	}
	if !a.wantsJSON() {
		for i, result := range r.Results {
			if err := a.println(strings.Join([]string{applied[i].name, f.shown(result.Key), resultText(f, applied[i], result)}, "\t")); err != nil {
				return err
			}
		}
		return nil
	}
	results := make([]object, len(r.Results))
	for i, result := range r.Results {
		results[i] = resultObject(f, applied[i], result)
	}
	o := object{{"succeeded", r.Succeeded}, {"version", r.Version}, {"results", results}}
	if r.ResultsLost {
		o = append(o, member{"results_lost", true})
	}
	return a.printJSON(append(o, member{"token", session.Token().String()}))
}

func resultText(f coding, op operation, r client.OpResult) string {
	switch {
	case op.name == "add":
		return strconv.FormatInt(r.Number, 10)
	case op.name == "get" && r.Found:
		return f.shown(string(r.Value))
	case op.previous && r.Previous != nil:
		return f.shown(string(r.Previous.Value))
	case op.previous, op.name != "put" && op.name != "del" && !r.Found:
		return "(none)"
	}
	return "OK"
}

func resultObject(f coding, op operation, r client.OpResult) object {
	o := object{{"op", op.name}, f.field("key", r.Key)}
	switch op.name {
	case "add":
		o = append(o, member{"number", r.Number})
	case "get":
		o = append(o, member{"found", r.Found})
		if r.Found {
			o = append(o, f.field("value", string(r.Value)), member{"version", r.Version}, member{"expires", instant(r.Expires)})
		}
	case "expire", "persist":
		o = append(o, member{"found", r.Found})
	}
	if op.previous {
		o = append(o, member{"previous", previousObject(f, r.Previous)})
	}
	return o
}
