package cli

import (
	"context"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

func (a *app) deleteRangeCommand() *cobra.Command {
	var f struct {
		coding
		rangeFlags
		all, yes, dryRun bool
	}
	cmd := &cobra.Command{
		Use:        "delete-range PREFIX | --from KEY --to KEY | --all",
		SuggestFor: []string{"delprefix", "flushdb", "flushall", "del-range", "clear", "truncate"},
		Short:      "Delete the keys with a prefix, or in a range",
		Long: `Delete the keys that begin with PREFIX, or lie in --from to --to, or --all.

Without --yes nothing is deleted: it prints how many keys there are. With --yes it
prints how many were deleted. -o json prints {"keys": …} or {"deleted": …}.

It is no transaction: keys go in steps of some hundred, in the order of slots, and
those written meanwhile may or may not survive. After an error or an interrupt
standard error says how many are gone; repeat the command to go on.`,
		Example: `  kvctl delete-range user/17/            # how many would go?
  kvctl delete-range user/17/ --yes
  kvctl delete-range --from log/2025 --to log/2026 --yes
  kvctl delete-range --all --yes`,
		Args:                  atMostOne("PREFIX"),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		Annotations:           map[string]string{needsTarget: "", outputs: objectOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen := len(args) > 0 && args[0] != "" || given(cmd, "from") || given(cmd, "to")
			switch {
			case chosen && f.all:
				return usageErrorf("", "--all and a choice of keys exclude each other")
			case !chosen && !f.all:
				// An empty PREFIX is more often a variable that is not set than the wish
				// to delete everything.
				return usageErrorf("--all deletes every key", "kvctl delete-range needs a PREFIX that is not empty, --from or --to, or --all")
			}
			if err := exclusive(cmd, "yes", "dry-run"); err != nil {
				return err
			}
			keys, err := f.rangeFlags.keys(cmd, f.coding, args)
			if err != nil {
				return err
			}
			return a.withStream(cmd.Context(), func(c *client.Client) error {
				if f.yes {
					return a.deleteRange(cmd.Context(), c, keys)
				}
				count, err := c.Count(cmd.Context(), keys)
				if err != nil {
					return err
				}
				if !f.dryRun {
					a.note("nothing was deleted: --yes deletes these keys")
				}
				return a.printNumber("keys", count)
			})
		},
	}
	f.coding.register(cmd)
	f.rangeFlags.register(cmd)
	cmd.Flags().BoolVar(&f.all, "all", false, "every key of the cluster")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "delete them")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only count them, which is the default")
	return cmd
}

func (a *app) deleteRange(ctx context.Context, c *client.Client, keys client.Keys) error {
	const parts = 1000
	bar := a.newBar("deleting", parts, false)
	shown := 0
	deleted, err := c.DeleteRange(ctx, keys, func(p client.DeleteProgress) {
		now := int(p.Fraction * parts)
		bar.add(now - shown)
		shown = now
	})
	bar.finish()
	if err != nil {
		a.note("%s keys were deleted before the error", humanize.Comma(int64(deleted)))
		return err
	}
	return a.printNumber("deleted", deleted)
}
