package cli

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

func (a *app) countCommand() *cobra.Command {
	var f struct {
		coding
		readFlags
		rangeFlags
		report bool
	}
	cmd := &cobra.Command{
		Use:        "count [PREFIX]",
		SuggestFor: []string{"dbsize", "size"},
		Short:      "Count the keys with a prefix, or in a range",
		Long: `Count the keys that begin with PREFIX, or lie in --from to --to, or all, without
reading them out of the nodes. Prints the number; -o json {"count": …}.

The nodes look at every key that is counted; each shard is counted as of one moment.

` + levelHelp,
		Example: `  kvctl count
  kvctl count user/
  kvctl count --from a --to b`,
		Args:              atMostOne("PREFIX"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: objectOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := f.rangeFlags.keys(cmd, f.coding, args)
			if err != nil {
				return err
			}
			how, err := f.readFlags.options(cmd)
			if err != nil {
				return err
			}
			return a.withStream(cmd.Context(), func(c *client.Client) error {
				var report client.ScanReport
				count, err := c.Count(cmd.Context(), keys, append(how.scan(), client.WithReport(&report))...)
				if err != nil {
					return err
				}
				if f.report {
					a.printReport(report)
				}
				return a.printNumber("count", count)
			})
		},
	}
	f.coding.register(cmd)
	f.rangeFlags.register(cmd)
	f.readFlags.register(cmd)
	cmd.Flags().BoolVar(&f.report, "report", false, "print cost and token to standard error")
	return cmd
}

func (a *app) printNumber(name string, n uint64) error {
	if a.wantsJSON() {
		return a.printJSON(object{{name, n}})
	}
	return a.println(strconv.FormatUint(n, 10))
}
