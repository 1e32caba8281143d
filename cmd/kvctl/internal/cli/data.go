package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

// maxStdin bounds a value read from standard input, in bytes: more than any
// cluster can be configured to take.
const maxStdin = 64 << 20

func (a *app) putCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "put KEY VALUE",
		Short: "Write a value",
		Long: `Write a value. VALUE - reads it from standard input, byte for byte.

Prints OK; -o json prints the key and the version of the write, -o raw nothing.
The write is repeated within --timeout until it is acknowledged, and takes effect
at most once. Exit code 7 means that it may or may not have been applied.`,
		Example: `  kvctl put hello world
  kvctl put photo - < photo.jpg
  kvctl put -- -key -value`,
		Args:              arguments("KEY", "VALUE"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: "table json raw"},
		RunE: func(cmd *cobra.Command, args []string) error {
			value := []byte(args[1])
			if args[1] == "-" {
				var err error
				if value, err = a.readValue(cmd.Context()); err != nil {
					return err
				}
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				result, err := c.Put(ctx, args[0], value)
				if err != nil {
					return err
				}
				return a.printWritten(args[0], result.Version)
			})
		},
	}
}

func (a *app) readValue(ctx context.Context) ([]byte, error) {
	value, err := io.ReadAll(io.LimitReader(interruptible{ctx, a.stdin}, maxStdin+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(value) > maxStdin {
		return nil, usageErrorf("", "the value on standard input has more than %d MiB", maxStdin>>20)
	}
	return value, nil
}

func (a *app) printWritten(key string, version uint64) error {
	switch a.settings.Output {
	case "json":
		return a.printJSON(struct {
			textOrBytesKey
			Version uint64 `json:"version"`
		}{jsonKey(key), version})
	case "raw":
		return nil
	}
	_, err := fmt.Fprintln(a.stdout, "OK")
	return err
}

func (a *app) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get KEY",
		Short: "Read a value",
		Long: `Read a value, linearizably.

Prints the bare value and a newline; -o raw leaves the newline out; -o json
prints key (key_base64 if it is not text), value (likewise value_base64) and
version. Exit code 3
means that the key has no value.`,
		Example: `  kvctl get hello
  kvctl get photo -o raw > photo.jpg`,
		Args:              arguments("KEY"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: "table json raw"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				item, err := c.Get(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printItem(item)
			})
		},
	}
}

func (a *app) printItem(item client.Item) error {
	if a.wantsJSON() {
		return a.printJSON(struct {
			textOrBytesKey
			textOrBytes
			Version uint64 `json:"version"`
		}{jsonKey(item.Key), jsonValue(item.Value), item.Version})
	}
	if _, err := a.stdout.Write(item.Value); err != nil || a.settings.Output == "raw" {
		return err
	}
	_, err := fmt.Fprintln(a.stdout)
	return err
}

func (a *app) delCommand() *cobra.Command {
	return &cobra.Command{
		Use: "del KEY",
		// What others call it.
		SuggestFor: []string{"delete", "rm", "remove", "unset"},
		Short:      "Delete a key",
		Long: `Delete a key. A key without a value is no error.

Prints OK; -o json prints the key and the version of the write, -o raw nothing.
Exit code 7 means that the key may or may not have been deleted.`,
		Example:           "  kvctl del hello",
		Args:              arguments("KEY"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: "table json raw"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				result, err := c.Delete(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printWritten(args[0], result.Version)
			})
		},
	}
}
