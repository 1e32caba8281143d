package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
)

// given reports whether a flag asks for something.
func given(cmd *cobra.Command, name string) bool {
	flag := cmd.Flags().Lookup(name)
	return flag.Changed && !(flag.Value.Type() == "bool" && flag.Value.String() == "false")
}

// exclusive refuses more than one of some flags.
func exclusive(cmd *cobra.Command, names ...string) error {
	var found []string
	for _, name := range names {
		if given(cmd, name) {
			found = append(found, "--"+name)
		}
	}
	if len(found) < 2 {
		return nil
	}
	return usageErrorf("", "%s exclude each other: choose one", strings.Join(found, " and "))
}

// conditionFlags are what a write asks of the key as it is.
type conditionFlags struct {
	absent, present bool
	version         uint64
}

func (f *conditionFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.absent, "if-absent", false, "only if the key does not exist")
	cmd.Flags().BoolVar(&f.present, "if-present", false, "only if the key exists")
	cmd.Flags().Uint64Var(&f.version, "if-version", 0, "only if the key exists with this version")
}

func (f *conditionFlags) any() bool { return f.absent || f.present || f.version != 0 }

func (f *conditionFlags) options(cmd *cobra.Command) ([]client.WriteOption, error) {
	if err := exclusive(cmd, "if-absent", "if-present", "if-version"); err != nil {
		return nil, err
	}
	switch {
	case f.absent:
		return []client.WriteOption{client.IfAbsent()}, nil
	case f.present:
		return []client.WriteOption{client.IfPresent()}, nil
	case !given(cmd, "if-version"):
		return nil, nil
	case f.version == 0:
		return nil, usageErrorf("for a key that must not exist use --if-absent", "--if-version: no value has version 0")
	}
	return []client.WriteOption{client.IfVersion(f.version)}, nil
}

// parseTTL reads a time to live.
func parseTTL(what, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, usageErrorf("", "%s: %q is not a duration such as 90s or 1h30m", what, text)
	}
	if d <= 0 {
		return 0, usageErrorf("kvctl del removes a key, kvctl persist its deadline", "%s: %v is not positive", what, d)
	}
	return d, nil
}

// readFlags are the level and the place of a read.
type readFlags struct {
	level, token string
	maxAge       time.Duration
	follower     bool
	nearest      bool
}

// levels are the names that --level takes.
var levels = []string{"linearizable", "session", "bounded", "any"}

func (f *readFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.level, "level", "", "linearizable (the default), session (with --token), bounded (with --max-age) or any")
	flags.StringVar(&f.token, "token", "", "see no less than what has this token, which -o json of reads and writes shows")
	flags.DurationVar(&f.maxAge, "max-age", 0, "see every write acknowledged this long ago")
	flags.BoolVar(&f.follower, "from-follower", false, "ask replicas other than the leader; the level is kept")
	flags.BoolVar(&f.nearest, "nearest", false, "ask the replica that answers fastest; the level is kept")
	complete(cmd, "level", levels)
}

const levelHelp = `--level says what a read may miss:
  linearizable  nothing that was acknowledged to anybody before it; the default
  session       nothing that --token has seen: one's own writes, earlier reads
  bounded       nothing that was acknowledged --max-age before it
  any           whatever the replica that is asked does not have yet`

// levelAndPlace goes with reads and scans.
type levelAndPlace struct {
	level []client.LevelOption
	place []client.PlaceOption
}

func (f *readFlags) options(cmd *cobra.Command) (o levelAndPlace, err error) {
	if err := exclusive(cmd, "from-follower", "nearest"); err != nil {
		return o, err
	}
	if err := exclusive(cmd, "token", "max-age"); err != nil {
		return o, err
	}
	level := f.level
	switch {
	case level != "":
	case given(cmd, "token"):
		level = "session"
	case given(cmd, "max-age"):
		level = "bounded"
	}
	if level != "session" && given(cmd, "token") {
		return o, usageErrorf("", "--token goes with --level session, not %s", level)
	}
	if level != "bounded" && given(cmd, "max-age") {
		return o, usageErrorf("", "--max-age goes with --level bounded, not %s", level)
	}
	switch level {
	case "", "linearizable":
	case "session":
		if f.token == "" {
			return o, usageErrorf("kvctl put -o json and get -o json show tokens", "--level session needs a --token")
		}
		token, err := client.ParseToken(f.token)
		if err != nil {
			return o, err
		}
		o.level = append(o.level, client.AtLeast(token))
	case "bounded":
		if f.maxAge <= 0 {
			return o, usageErrorf("", "--level bounded needs a positive --max-age")
		}
		o.level = append(o.level, client.BoundedStale(f.maxAge))
	case "any":
		o.level = append(o.level, client.Any())
	default:
		return o, usageErrorf("", "--level: %q is not one of %s", level, strings.Join(levels, ", "))
	}
	switch {
	case f.follower:
		o.place = append(o.place, client.FromFollower())
	case f.nearest:
		o.place = append(o.place, client.Nearest())
	}
	return o, nil
}

func (o levelAndPlace) read() (options []client.ReadOption) {
	for _, option := range o.level {
		options = append(options, option)
	}
	for _, option := range o.place {
		options = append(options, option)
	}
	return options
}

func (o levelAndPlace) scan() (options []client.ScanOption) {
	for _, option := range o.level {
		options = append(options, option)
	}
	for _, option := range o.place {
		options = append(options, option)
	}
	return options
}

// rangeFlags choose keys, beside a PREFIX.
type rangeFlags struct{ from, to string }

func (f *rangeFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.from, "from", "", "first key of a range")
	cmd.Flags().StringVar(&f.to, "to", "", "end of a range, itself not in it")
}

// keys is the choice of keys: args holds a prefix or nothing.
func (f *rangeFlags) keys(cmd *cobra.Command, c coding, args []string) (client.Keys, error) {
	ranged := given(cmd, "from") || given(cmd, "to")
	switch {
	case len(args) > 0 && ranged:
		return client.Keys{}, usageErrorf("", "a PREFIX and --from or --to exclude each other")
	case len(args) > 0:
		prefix, err := c.decode("PREFIX", args[0])
		return client.Prefix(prefix), err
	case !ranged:
		_, err := c.decode("", "")
		return client.All(), err
	}
	from, err := c.decode("--from", f.from)
	if err != nil {
		return client.Keys{}, err
	}
	to, err := c.decode("--to", f.to)
	if err != nil {
		return client.Keys{}, err
	}
	if to != "" && from > to {
		return client.Keys{}, usageErrorf("--reverse scans backward; the range is the same", "--from lies behind --to")
	}
	return client.Range(from, to), nil
}

// atMostOne wants no argument or one.
func atMostOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= 1 {
			return nil
		}
		return usageErrorf("usage: "+cmd.UseLine(), "%s takes at most one %s, not %s", cmd.CommandPath(), name, countOf(len(args)))
	}
}
