package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

func (a *app) getCommand() *cobra.Command {
	var f struct {
		coding
		readFlags
	}
	cmd := &cobra.Command{
		Use:        "get KEY",
		SuggestFor: []string{"read", "cat"},
		Short:      "Read a value",
		Long: `Read a value, by default linearizably.

Prints the bare value and a newline; -o raw leaves the newline out; -o json prints
key (key_base64 if it is not text), value (likewise value_base64), version,
expires if there is a deadline, how the read was served, and a token: a later read
with --token sees no less. Exit code 3 means that the key has no value.

` + levelHelp,
		Example: `  kvctl get hello
  kvctl get photo -o raw > photo.jpg
  kvctl get hello -o json | jq .version
  kvctl get hello --max-age 5s --from-follower
  kvctl get hello --token "$(kvctl put hello world -o json | jq -r .token)" --nearest`,
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
				session := client.NewSession()
				item, err := c.Get(ctx, key, append(how.read(), client.WithSession(session))...)
				if err != nil {
					return err
				}
				return a.printItem(f.coding, item, session.Token())
			})
		},
	}
	f.coding.register(cmd)
	f.readFlags.register(cmd)
	return cmd
}

func (a *app) printItem(c coding, item client.Item, seen client.Token) error {
	if !a.wantsJSON() {
		return a.printValue(c, item.Value)
	}
	o := object{c.field("key", item.Key), c.field("value", string(item.Value)), {"version", item.Version}}
	if !item.Expires.IsZero() {
		o = append(o, member{"expires", instant(item.Expires)})
	}
	return a.printJSON(append(o, member{"served", servedObject(item.Served)}, member{"token", seen.String()}))
}

func servedObject(s client.Served) object {
	return object{{"by", s.By.String()}, {"node", s.Node}, {"shard_version", s.ShardVersion}}
}
