package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

func (a *app) delCommand() *cobra.Command {
	var f struct {
		coding
		conditionFlags
		previous bool
	}
	cmd := &cobra.Command{
		Use: "del KEY",
		// What others call it.
		SuggestFor: []string{"delete", "rm", "remove", "unset"},
		Short:      "Delete a key",
		Long: `Delete a key. A key without a value is no error, unless a condition says so.

Prints OK, or with --prev the value before and a newline, and nothing if there was
none. -o json prints key, version and token, -o raw nothing but what --prev asks
for. Exit code 7 means that the key may or may not have been deleted, 13 that a
condition did not hold; standard error then says which version the key has.

kvctl delete-range deletes many keys.`,
		Example: `  kvctl del hello
  kvctl del lock --if-version 1764518399000123    # only what I have put there
  kvctl del job --if-present --prev`,
		Args:              arguments("KEY"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: objectOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := f.decode("KEY", args[0])
			if err != nil {
				return err
			}
			opts, err := f.conditionFlags.options(cmd)
			if err != nil {
				return err
			}
			if f.previous {
				opts = append(opts, client.WithPrevious())
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				session := client.NewSession()
				result, err := c.Delete(ctx, key, append(opts, client.WithSession(session))...)
				if err != nil {
					return conditionError(err, f.conditionFlags.any())
				}
				return a.printWritten(f.coding, written{key: key, version: result.Version, session: session,
					wantsPrevious: f.previous, previous: result.Previous, previousLost: result.PreviousLost})
			})
		},
	}
	f.coding.register(cmd)
	f.conditionFlags.register(cmd)
	cmd.Flags().BoolVar(&f.previous, "prev", false, "print the value before")
	return cmd
}
