package cli

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

func (a *app) addCommand() *cobra.Command {
	var f coding
	cmd := &cobra.Command{
		Use:        "add KEY N",
		SuggestFor: []string{"incr", "incrby", "decr", "increment"},
		Short:      "Add to a number",
		Long: `Add N to the decimal 64-bit number that a key holds, and print the sum. A key that
does not exist counts from 0. A deadline stays as it is.

The sum is applied exactly once, however often the network makes kvctl repeat it.
-o json prints key, number, version and token. Exit code 4 means that the value is
no such number or the sum would not be one; the key is then unchanged. After exit
code 7 do not simply repeat the command: it may have been applied.`,
		Example: `  kvctl add visits 1
  kvctl add stock -3`,
		Args:              arguments("KEY", "N"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: objectOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := f.decode("KEY", args[0])
			if err != nil {
				return err
			}
			delta, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil {
				return usageErrorf("", "N: %q is not a whole number of 64 bits", args[1])
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				session := client.NewSession()
				result, err := c.Add(ctx, key, delta, client.WithSession(session))
				if err != nil {
					return err
				}
				if a.wantsJSON() {
					return a.printJSON(object{f.field("key", key), {"number", result.Value}, {"version", result.Version},
						{"token", session.Token().String()}})
				}
				return a.println(strconv.FormatInt(result.Value, 10))
			})
		},
	}
	f.register(cmd)
	return cmd
}
