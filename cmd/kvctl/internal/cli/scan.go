package cli

import (
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

// listOutputs is for verbs that answer with many things.
const listOutputs = "table json ndjson raw csv"

// orders are the names that --order takes.
var orders = []string{"key", "slot"}

type scanFlags struct {
	coding
	readFlags
	rangeFlags
	keysOnly, reverse, report bool
	limit                     int
	order                     string
}

func (a *app) scanCommand() *cobra.Command {
	var f scanFlags
	cmd := &cobra.Command{
		Use:        "scan [PREFIX]",
		SuggestFor: []string{"keys", "ls", "list", "range"},
		Short:      "Read the keys with a prefix, or in a range",
		Long: `Read the keys that begin with PREFIX, or lie in --from to --to, or all.

Prints a line for each: the key, a tab, and the value. Keys and values that are not
printable text are quoted as in Go and JSON ("a\x00b"), so that a line is one line
also when piped; -o raw prints them as they are, -o csv has a header and the columns
key, value, version, expires, -o ndjson an object a line with key (or key_base64),
value (or value_base64), version and, if there is a deadline, expires; -o json is one
array, which is left open if the scan ends with an error.

--order key, the default, sorts by the keys' bytes; --order slot takes one shard
after the other, which is cheaper over many shards, and sorts by key within a slot.
A PREFIX with a complete hash tag, such as {user17}, is one seek in one shard.

Each shard is read as of one moment. --timeout bounds how long nothing at all may
come. --report prints the cost to standard error, and a token from which kvctl
watch shows every change that the scan does not.

` + levelHelp,
		Example: `  kvctl scan user/
  kvctl scan user/ --keys-only --limit 10 --reverse
  kvctl scan --from a --to b -o csv > keys.csv
  kvctl scan '{user17}' -o ndjson | jq -c '{key, value}'
  kvctl scan --hex 00ff`,
		Args:              atMostOne("PREFIX"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: listOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, opts, err := f.parse(cmd, args)
			if err != nil {
				return err
			}
			return a.withStream(cmd.Context(), func(c *client.Client) error {
				var report client.ScanReport
				out, err := a.newItems(f.coding, f.keysOnly)
				if err != nil {
					return err
				}
				for item, err := range c.Scan(cmd.Context(), keys, append(opts, client.WithReport(&report))...) {
					if err == nil {
						err = out.item(item)
					}
					if err != nil {
						return out.end(err)
					}
				}
				if err := out.end(nil); err != nil {
					return err
				}
				if f.report {
					a.printReport(report)
				}
				return nil
			})
		},
	}
	f.coding.register(cmd)
	f.rangeFlags.register(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.keysOnly, "keys-only", false, "leave the values where they are")
	flags.IntVar(&f.limit, "limit", 0, "end after this many keys")
	flags.BoolVar(&f.reverse, "reverse", false, "from the last key to the first")
	flags.StringVar(&f.order, "order", "key", "key, or slot: one shard after the other, which is cheaper")
	flags.BoolVar(&f.report, "report", false, "print cost and token to standard error")
	f.readFlags.register(cmd)
	complete(cmd, "order", orders)
	return cmd
}

func (f *scanFlags) parse(cmd *cobra.Command, args []string) (keys client.Keys, opts []client.ScanOption, err error) {
	if keys, err = f.rangeFlags.keys(cmd, f.coding, args); err != nil {
		return keys, nil, err
	}
	how, err := f.readFlags.options(cmd)
	if err != nil {
		return keys, nil, err
	}
	opts = how.scan()
	if given(cmd, "limit") {
		if f.limit < 1 {
			return keys, nil, usageErrorf("", "--limit: %d is not positive", f.limit)
		}
		opts = append(opts, client.Limit(f.limit))
	}
	switch f.order {
	case "key":
	case "slot":
		opts = append(opts, client.BySlot())
	default:
		return keys, nil, usageErrorf("", "--order: %q is not key or slot", f.order)
	}
	if f.reverse {
		opts = append(opts, client.Reverse())
	}
	if f.keysOnly {
		opts = append(opts, client.KeysOnly())
	}
	return keys, opts, nil
}

func (a *app) printReport(r client.ScanReport) {
	a.note("%s keys given out, %s looked at, %s seeks, %d streams, %d of them resumed",
		humanize.Comma(int64(r.Items)), humanize.Comma(int64(r.Examined)), humanize.Comma(int64(r.Seeks)), r.Streams, r.Resumed)
	a.note("token: %s", r.Token())
}
