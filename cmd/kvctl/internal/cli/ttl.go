package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

func (a *app) ttlCommand() *cobra.Command {
	var f struct {
		coding
		readFlags
	}
	cmd := &cobra.Command{
		Use:        "ttl KEY",
		SuggestFor: []string{"pttl", "expiry"},
		Short:      "Show how long a key will live",
		Long: `Show how long it is until a key's deadline: a duration, or none. -o raw prints whole
milliseconds, or -1 for none; -o json prints key, ttl_ms and expires (null for
none) and version. Exit code 3 means that there is no such key.

The deadline is in the cluster's time, which no single clock decides; what is left
is as exact as the machines' clocks agree.`,
		Example: `  kvctl ttl session/17
  kvctl ttl session/17 -o raw`,
		Args:              arguments("KEY"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: objectOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := f.decode("KEY", args[0])
			if err != nil {
				return err
			}
			how, err := f.readFlags.options(cmd)
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				result, err := c.TTL(ctx, key, how.read()...)
				if err != nil {
					return err
				}
				return a.printTTL(f.coding, key, result)
			})
		},
	}
	f.coding.register(cmd)
	f.readFlags.register(cmd)
	return cmd
}

func (a *app) printTTL(c coding, key string, r client.TTLResult) error {
	switch {
	case a.wantsJSON() && r.Limited:
		return a.printJSON(object{c.field("key", key), {"ttl_ms", r.Left.Milliseconds()}, {"expires", instant(r.Expires)}, {"version", r.Version}})
	case a.wantsJSON():
		return a.printJSON(object{c.field("key", key), {"ttl_ms", nil}, {"expires", nil}, {"version", r.Version}})
	case a.settings.Output == "raw" && r.Limited:
		return a.println(strconv.FormatInt(r.Left.Milliseconds(), 10))
	case a.settings.Output == "raw":
		return a.println("-1")
	case r.Limited:
		return a.println(r.Left.Round(time.Millisecond).String())
	}
	return a.println("none")
}
