package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

func (a *app) expireCommand() *cobra.Command {
	var f coding
	cmd := &cobra.Command{
		Use:        "expire KEY DURATION",
		SuggestFor: []string{"pexpire", "touch"},
		Short:      "Give a key a deadline",
		Long: `Give a key a deadline and leave its value alone: the key is gone at the earliest
DURATION after the write, and within a second of that while its shard is well.

Prints OK; -o json prints key, version and token, -o raw nothing. Exit code 3 means
that there is no such key.`,
		Example: `  kvctl expire session/17 30m
  kvctl expire session/17 1500ms`,
		Args:              arguments("KEY", "DURATION"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: objectOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			ttl, err := parseTTL("DURATION", args[1])
			if err != nil {
				return err
			}
			return a.setDeadline(cmd.Context(), f, args[0], ttl)
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) persistCommand() *cobra.Command {
	var f coding
	cmd := &cobra.Command{
		Use:   "persist KEY",
		Short: "Remove a key's deadline",
		Long: `Remove a key's deadline, if it has one, and leave its value alone.

Prints OK; -o json prints key, version and token, -o raw nothing. Exit code 3 means
that there is no such key.`,
		Example:           "  kvctl persist session/17",
		Args:              arguments("KEY"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: objectOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setDeadline(cmd.Context(), f, args[0], 0)
		},
	}
	f.register(cmd)
	return cmd
}

// setDeadline sets a key's deadline, or removes it if ttl is 0.
func (a *app) setDeadline(ctx context.Context, f coding, keyText string, ttl time.Duration) error {
	key, err := f.decode("KEY", keyText)
	if err != nil {
		return err
	}
	return a.withClient(ctx, func(ctx context.Context, c *client.Client) error {
		session := client.NewSession()
		var result client.ExpireResult
		var err error
		if ttl == 0 {
			result, err = c.Persist(ctx, key, client.WithSession(session))
		} else {
			result, err = c.Expire(ctx, key, ttl, client.WithSession(session))
		}
		if err != nil {
			return err
		}
		return a.printWritten(f, written{key: key, version: result.Version, session: session})
	})
}
