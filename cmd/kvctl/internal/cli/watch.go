package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

type watchFlags struct {
	coding
	rangeFlags
	prefix, progress bool
	token            string
	limit            int
	follower         bool
	keysOnly         bool
}

func (a *app) watchCommand() *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use:        "watch KEY | [PREFIX] --prefix",
		SuggestFor: []string{"subscribe", "tail", "follow"},
		Short:      "Show changes as they happen",
		Long: `Show the changes of a key, or with --prefix of all keys that begin with it, as they
happen, until it is interrupted, which is exit code 0, or --limit is reached.

Prints a line for each change: put, delete, expire (its deadline had come) or
deadline (that was set or removed); the key; and the value or the deadline, with
tabs between. -o ndjson prints objects with type, key, value, expires, version and
token; -o json is the same. Each line is written at once.

Changes of one shard come in order; none is left out or repeated. What was written
together comes together, and only the last change of such a group has the token.
From a token (--token) a later watch goes on without a gap; it may be that of a
kvctl scan --report, or of a line, or the one that is printed to standard error when
the watch has been set up and when it ends. Nodes remember changes for a while only:
exit code 14 means that those from the token are gone. Then scan again. --timeout has
no bearing on a watch; it gives up when a shard was out of reach for a minute.`,
		Example: `  kvctl watch config/main
  kvctl watch job/ --prefix -o ndjson | while read -r line; do …; done
  kvctl watch --prefix --progress -o ndjson          # everything, and fresh tokens
  kvctl watch job/ --prefix --token "$TOKEN"         # where an earlier one ended
  kvctl watch ready --limit 1                        # wait for a change`,
		Args:                  atMostOne("KEY"),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		Annotations:           map[string]string{needsTarget: "", outputs: "table json ndjson raw"},
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, opts, err := f.parse(cmd, args)
			if err != nil {
				return err
			}
			return a.withStream(cmd.Context(), func(c *client.Client) error {
				return a.watch(cmd.Context(), c, f, keys, opts)
			})
		},
	}
	f.coding.register(cmd)
	f.rangeFlags.register(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.prefix, "prefix", false, "all keys that begin with the argument; all without one")
	flags.StringVar(&f.token, "token", "", "go on behind this position")
	flags.IntVar(&f.limit, "limit", 0, "end after this many changes, or a group more")
	flags.BoolVar(&f.keysOnly, "keys-only", false, "leave the values out")
	flags.BoolVar(&f.progress, "progress", false, "with -o ndjson: also print fresh tokens while nothing changes")
	flags.BoolVar(&f.follower, "from-follower", false, "ask replicas other than the leader")
	return cmd
}

func (f *watchFlags) parse(cmd *cobra.Command, args []string) (keys client.Keys, opts []client.WatchOption, err error) {
	ranged := given(cmd, "from") || given(cmd, "to")
	switch {
	case f.prefix && ranged:
		return keys, nil, usageErrorf("", "--prefix and --from or --to exclude each other")
	case f.prefix || ranged:
		keys, err = f.rangeFlags.keys(cmd, f.coding, args)
	case len(args) == 0:
		return keys, nil, usageErrorf("kvctl watch --prefix watches every key", "kvctl watch needs a KEY, --prefix, or --from or --to")
	default:
		var key string
		key, err = f.decode("KEY", args[0])
		keys = client.Key(key)
	}
	if err != nil {
		return keys, nil, err
	}
	if given(cmd, "limit") && f.limit < 1 {
		return keys, nil, usageErrorf("", "--limit: %d is not positive", f.limit)
	}
	if given(cmd, "token") {
		token, err := client.ParseToken(f.token)
		if err != nil {
			return keys, nil, err
		}
		opts = append(opts, client.From(token))
	}
	if f.progress {
		opts = append(opts, client.WithProgress())
	}
	if f.keysOnly {
		opts = append(opts, client.KeysOnly())
	}
	if f.follower {
		opts = append(opts, client.FromFollower())
	}
	return keys, opts, nil
}

func (a *app) watch(ctx context.Context, c *client.Client, f watchFlags, keys client.Keys, opts []client.WatchOption) error {
	out := &changes{lines: a.newLines(f.coding), keysOnly: f.keysOnly}
	var last client.Token
	defer func() {
		if !last.IsZero() {
			a.note("token: %s", last)
		}
	}()
	begun, seen := f.token != "", 0
	for ch, err := range c.Watch(ctx, keys, opts...) {
		if !ch.Token.IsZero() {
			last = ch.Token
		}
		switch {
		case err != nil && errors.Is(context.Cause(ctx), errInterrupted):
			return nil
		case err != nil:
			return err
		case ch.Kind == client.ChangeSet:
			if err := out.group(ch); err != nil {
				return err
			}
		case !begun:
			begun = true
			a.note("watching; token: %s", ch.Token)
		case a.wantsJSON():
			if err := out.progress(ch); err != nil {
				return err
			}
		}
		if seen += len(ch.Events); f.limit > 0 && seen >= f.limit {
			return nil
		}
	}
	return nil
}

// changes writes what a watch gets.
type changes struct {
	*lines
	keysOnly bool
}

// group writes the changes of one version. They are flushed together, so that a
// reader does not see half of what belongs together.
func (c *changes) group(ch client.Changes) error {
	for i, e := range ch.Events {
		var token string
		if i == len(ch.Events)-1 {
			token = ch.Token.String()
		}
		if err := c.event(e, ch.Version, token); err != nil {
			return err
		}
	}
	return c.flush()
}

func (c *changes) event(e client.Event, version uint64, token string) error {
	switch c.output {
	case "json", "ndjson":
		o := object{{"type", e.Type.String()}, c.field("key", e.Key)}
		if e.Type == client.EventPut && !c.keysOnly {
			o = append(o, c.field("value", string(e.Value)))
		}
		if !e.Expires.IsZero() || e.Type == client.EventDeadline {
			o = append(o, member{"expires", instant(e.Expires)})
		}
		o = append(o, member{"version", version})
		if token != "" {
			o = append(o, member{"token", token})
		}
		return c.ndjson(o)
	}
	show := c.shown
	if c.output == "raw" {
		show = c.plain
	}
	cells := []string{e.Type.String(), show(e.Key)}
	switch {
	case e.Type == client.EventPut && !c.keysOnly:
		cells = append(cells, show(string(e.Value)))
	case e.Type == client.EventDeadline && e.Expires.IsZero():
		cells = append(cells, "none")
	case e.Type == client.EventDeadline:
		cells = append(cells, fmt.Sprint(instant(e.Expires)))
	}
	return c.line(cells...)
}

func (c *changes) progress(ch client.Changes) error {
	if err := c.ndjson(object{{"type", "progress"}, {"token", ch.Token.String()}}); err != nil {
		return err
	}
	return c.flush()
}
