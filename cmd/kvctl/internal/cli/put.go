package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

// maxStdin bounds a value read from standard input, in bytes: more than any
// cluster can be configured to take.
const maxStdin = 64 << 20

// objectOutputs is for verbs that answer with one thing.
const objectOutputs = "table json ndjson raw"

type putFlags struct {
	coding
	conditionFlags
	ttl                    string
	keepTTL, wantsPrevious bool
}

func (a *app) putCommand() *cobra.Command {
	var f putFlags
	cmd := &cobra.Command{
		Use:        "put KEY VALUE",
		SuggestFor: []string{"set", "write"},
		Short:      "Write a value",
		Long: `Write a value. VALUE - reads it from standard input, byte for byte, whatever
--hex and --base64 say of the key.

Prints OK, or with --prev the value before and a newline, and nothing if there was
none. -o json prints key, version and a token for get --token; -o raw nothing but
what --prev asks for.

The write is repeated within --timeout until it is acknowledged, and takes effect
at most once. Exit code 7 means that it may or may not have been applied, 13 that
a condition did not hold: then nothing was changed, and standard error says which
version the key has. A put without --ttl and --keep-ttl removes a deadline.`,
		Example: `  kvctl put hello world
  kvctl put photo - < photo.jpg
  kvctl put lock "$HOSTNAME" --if-absent --ttl 30s     # take a lock
  kvctl put counter 8 --if-version 1764518399000123    # compare and set
  kvctl put --hex 00ff 0a0b
  kvctl put -- -key -value`,
		Args:              arguments("KEY", "VALUE"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: objectOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			key, opts, err := f.parse(cmd, args[0])
			if err != nil {
				return err
			}
			value, err := a.valueOf(cmd.Context(), f.coding, args[1])
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				session := client.NewSession()
				result, err := c.Put(ctx, key, value, append(opts, client.WithSession(session))...)
				if err != nil {
					return conditionError(err, f.conditionFlags.any())
				}
				return a.printWritten(f.coding, written{key: key, version: result.Version, session: session,
					wantsPrevious: f.wantsPrevious, previous: result.Previous, previousLost: result.PreviousLost})
			})
		},
	}
	f.coding.register(cmd)
	f.conditionFlags.register(cmd)
	cmd.Flags().StringVar(&f.ttl, "ttl", "", "the key is gone this long after the write, such as 90s")
	cmd.Flags().BoolVar(&f.keepTTL, "keep-ttl", false, "leave the key's deadline as it is")
	cmd.Flags().BoolVar(&f.wantsPrevious, "prev", false, "print the value before")
	complete(cmd, "ttl", []string{"30s", "5m", "24h"})
	return cmd
}

func (f *putFlags) parse(cmd *cobra.Command, keyText string) (key string, opts []client.WriteOption, err error) {
	if key, err = f.decode("KEY", keyText); err != nil {
		return "", nil, err
	}
	if opts, err = f.conditionFlags.options(cmd); err != nil {
		return "", nil, err
	}
	if err := exclusive(cmd, "ttl", "keep-ttl"); err != nil {
		return "", nil, err
	}
	if given(cmd, "ttl") {
		ttl, err := parseTTL("--ttl", f.ttl)
		if err != nil {
			return "", nil, err
		}
		opts = append(opts, client.WithTTL(ttl))
	}
	if f.keepTTL {
		opts = append(opts, client.KeepTTL())
	}
	if f.wantsPrevious {
		opts = append(opts, client.WithPrevious())
	}
	return key, opts, nil
}

// valueOf reads the VALUE of an argument, or of standard input for "-".
func (a *app) valueOf(ctx context.Context, c coding, text string) ([]byte, error) {
	if text == "-" {
		return a.readValue(ctx)
	}
	value, err := c.decode("VALUE", text)
	return []byte(value), err
}

func (a *app) readValue(ctx context.Context) ([]byte, error) {
	value, err := io.ReadAll(io.LimitReader(interruptible{ctx, a.stdin}, maxStdin+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(value) > maxStdin {
		return nil, usageErrorf("", "there are more than %d MiB on standard input", maxStdin>>20)
	}
	return value, nil
}

// written is what put and del print.
type written struct {
	key           string
	version       uint64
	session       *client.Session
	wantsPrevious bool
	previous      *client.Item
	previousLost  bool
}

func (a *app) printWritten(c coding, w written) error {
	if w.wantsPrevious && w.previousLost {
		a.note("the value before is not known: the write had been applied by an earlier attempt, and the value is too large to be remembered")
	}
	if a.wantsJSON() {
		o := object{c.field("key", w.key), {"version", w.version}}
		if w.wantsPrevious {
			o = append(o, member{"previous", previousObject(c, w.previous)})
		}
		if w.previousLost {
			o = append(o, member{"previous_lost", true})
		}
		return a.printJSON(append(o, member{"token", w.session.Token().String()}))
	}
	switch {
	case w.wantsPrevious && w.previous != nil:
		return a.printValue(c, w.previous.Value)
	case w.wantsPrevious && !w.previousLost:
		a.note("there was no value before")
		return nil
	case w.wantsPrevious, a.settings.Output == "raw":
		return nil
	}
	return a.println("OK")
}

// previousObject is null if there was nothing.
func previousObject(c coding, item *client.Item) any {
	if item == nil {
		return nil
	}
	return object{c.field("value", string(item.Value)), {"version", item.Version}}
}

// printValue prints a value alone, with a newline unless it is raw.
func (a *app) printValue(c coding, value []byte) error {
	text := c.plain(string(value))
	if a.settings.Output != "raw" {
		text += "\n"
	}
	_, err := io.WriteString(a.stdout, text)
	return err
}

// conditionError says which version a key has whose condition did not hold, and what
// to do after a write with a condition whose outcome is unknown.
func conditionError(err error, conditional bool) error {
	var told *client.Error
	if conditional && errors.Is(err, client.ErrInDoubt) {
		return &commandError{code: exitOutcomeUnknown, err: err,
			hint: "read the key to find out: repeated, the condition would meet the command's own write if that was applied"}
	}
	if !errors.As(err, &told) || told.Kind != client.ErrConditionFailed {
		return err
	}
	is := "the key does not exist"
	if told.Exists {
		is = fmt.Sprintf("the key exists with version %d", told.Version)
	}
	return &commandError{code: exitCondition, err: fmt.Errorf("%s %q: condition failed: %s", told.Op, told.Key, is)}
}
