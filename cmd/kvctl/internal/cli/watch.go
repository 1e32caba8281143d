package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

type watchFlags struct {
	coding
	rangeFlags
	prefix, marks   bool
	token           string
	limit           int
	follower        bool
	keysOnly        bool
	initial, resync bool
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
exit code 14 means that those from the token are gone.

With --resync it then goes on: a line "reset" says that everything known of the keys
is void; a line "item" with key and value for each that there is follows, and "synced",
in JSON with the token, ends them. --initial begins like that. Both are complete: what
is changed meanwhile comes behind.

--timeout has no bearing on a watch; it gives up when a shard was out of reach for a
minute.`,
		Example: `  kvctl watch config/main
  kvctl watch job/ --prefix -o ndjson | while read -r line; do …; done
  kvctl watch --prefix --progress -o ndjson          # everything, and fresh tokens
  kvctl watch job/ --prefix --token "$TOKEN"         # where an earlier one ended
  kvctl watch job/ --prefix --initial --resync       # a mirror that is never behind for good
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
	flags.IntVar(&f.limit, "limit", 0, "end after this many changes and items, and the rest of their group")
	flags.BoolVar(&f.initial, "initial", false, "first print what there is, then the changes")
	flags.BoolVar(&f.resync, "resync", false, "where changes are lost print what there is, and go on")
	flags.BoolVar(&f.keysOnly, "keys-only", false, "leave the values out")
	flags.BoolVar(&f.marks, "progress", false, "with -o ndjson: also print fresh tokens when only other keys change")
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
		if f.token == "" {
			return keys, nil, usageErrorf("without --token a watch begins now", "--token is empty")
		}
		if _, err := client.ParseToken(f.token); err != nil {
			return keys, nil, err
		}
	}
	if err := exclusive(cmd, "initial", "token"); err != nil {
		return keys, nil, err
	}
	if f.marks {
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

// watching is one run of kvctl watch.
type watching struct {
	*app
	watchFlags
	client *client.Client
	keys   client.Keys
	opts   []client.WatchOption // but where to begin
	out    *changes
	from   client.Token // everything before it has been printed
	seen   int          // changes, and items of a reset
	ready  bool         // standard error has been told that the watch is set up
}

func (a *app) watch(ctx context.Context, c *client.Client, f watchFlags, keys client.Keys, opts []client.WatchOption) error {
	w := &watching{app: a, watchFlags: f, client: c, keys: keys, opts: opts, out: &changes{a.newLines(f.coding), f.keysOnly}}
	var err error
	if w.from, err = client.ParseToken(f.token); err != nil {
		return err
	}
	w.ready = !w.from.IsZero()
	err = w.run(ctx)
	if !w.from.IsZero() {
		a.note("token: %s", w.from)
	}
	if errors.Is(context.Cause(ctx), errInterrupted) {
		return nil
	}
	return err
}

func (w *watching) run(ctx context.Context) error {
	if w.initial {
		if err := w.reset(ctx); err != nil {
			return err
		}
	}
	for !w.enough() {
		err := w.follow(ctx)
		if err == nil || !w.resync || !errors.Is(err, client.ErrCompacted) {
			return err
		}
		w.note("changes are lost, and the keys are read again: %v", err)
		if err := w.reset(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *watching) enough() bool { return w.limit > 0 && w.seen >= w.limit }

// follow prints changes until there are enough, or an error.
func (w *watching) follow(ctx context.Context) error {
	opts := w.opts
	if !w.from.IsZero() {
		opts = append(slices.Clip(opts), client.From(w.from))
	}
	for ch, err := range w.client.Watch(ctx, w.keys, opts...) {
		if err == nil {
			err = w.show(ch)
		}
		if err != nil {
			return err
		}
		w.from = ch.Token
		if w.seen += len(ch.Events); w.enough() {
			return nil
		}
	}
	return nil
}

func (w *watching) show(ch client.Changes) error {
	switch {
	case ch.Kind == client.ChangeSet:
		return w.out.group(ch)
	case !w.ready:
		w.ready = true
		w.note("watching; token: %s", ch.Token)
	case w.marks && w.wantsJSON():
		return w.out.mark("progress", ch.Token)
	}
	return nil
}

// reset prints what there is, in place of changes that are not known. Its token is
// that of the whole, so who is interrupted in the middle of it begins again.
func (w *watching) reset(ctx context.Context) error {
	if err := w.out.mark("reset", client.Token{}); err != nil {
		return err
	}
	var report client.ScanReport
	opts := []client.ScanOption{client.BySlot(), client.WithReport(&report)}
	if w.keysOnly {
		opts = append(opts, client.KeysOnly())
	}
	for item, err := range w.client.Scan(ctx, w.keys, opts...) {
		if err == nil {
			err = w.out.item(item)
		}
		if err != nil {
			return err
		}
		w.seen++
	}
	w.from, w.ready = report.Token(), true
	return w.out.mark("synced", w.from)
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
	cells := []string{e.Type.String(), c.show(e.Key)}
	switch {
	case e.Type == client.EventPut && !c.keysOnly:
		cells = append(cells, c.show(string(e.Value)))
	case e.Type == client.EventDeadline && e.Expires.IsZero():
		cells = append(cells, "none")
	case e.Type == client.EventDeadline:
		cells = append(cells, fmt.Sprint(instant(e.Expires)))
	}
	return c.line(cells...)
}

// item writes a key that a reset has found.
func (c *changes) item(item client.Item) error {
	switch c.output {
	case "json", "ndjson":
		o := object{{"type", "item"}, c.field("key", item.Key)}
		if !c.keysOnly {
			o = append(o, c.field("value", string(item.Value)))
		}
		if !item.Expires.IsZero() {
			o = append(o, member{"expires", instant(item.Expires)})
		}
		return c.ndjson(append(o, member{"version", item.Version}))
	}
	cells := []string{"item", c.show(item.Key)}
	if !c.keysOnly {
		cells = append(cells, c.show(string(item.Value)))
	}
	return c.line(cells...)
}

// mark writes something that is no change, at once.
func (c *changes) mark(name string, token client.Token) error {
	var err error
	switch {
	case c.output != "json" && c.output != "ndjson":
		err = c.line(name)
	case token.IsZero():
		err = c.ndjson(object{{"type", name}})
	default:
		err = c.ndjson(object{{"type", name}, {"token", token.String()}})
	}
	return cmp.Or(err, c.flush())
}

// show is how a line that is not JSON has bytes.
func (c *changes) show(raw string) string {
	if c.output == "raw" {
		return c.plain(raw)
	}
	return c.shown(raw)
}
