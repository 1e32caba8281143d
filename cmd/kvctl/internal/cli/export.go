package cli

import (
	"bufio"
	"context"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/ndjson"
)

type exportFlags struct {
	coding
	readFlags
	rangeFlags
	report bool
}

func (a *app) exportCommand() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:        "export [PREFIX]",
		SuggestFor: []string{"dump", "backup"},
		Short:      "Write keys and values as NDJSON, for import",
		Long: `Write the keys that begin with PREFIX, or lie in --from to --to, or all, to standard
output, as the NDJSON that kvctl import reads back byte for byte: a line for each
key, {"key": …, "value": …}, with "key_base64" and "value_base64" for bytes that are
not text, and "ttl_ms" for the milliseconds that a key has left to live.

The order is that of slots, and of keys within a slot: two exports of the same keys
are equal, on whatever nodes they lie. Each shard is read as of one moment, shards
one after the other. --report prints a token from which kvctl watch shows every
change that the export does not have. Counts go to standard error. An export that
ends with another exit code than 0 is not complete.

` + levelHelp,
		Example: `  kvctl export > all.ndjson
  kvctl export user/ | gzip > users.ndjson.gz
  kvctl export --context old | kvctl import - --context new`,
		Args:              atMostOne("PREFIX"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: "ndjson"},
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
				return a.export(cmd.Context(), c, keys, how, f.report)
			})
		},
	}
	cmd.Flags().BoolVar(&f.hex, "hex", false, "PREFIX and bounds are hexadecimal")
	cmd.Flags().BoolVar(&f.base64, "base64", false, "PREFIX and bounds are base64")
	f.rangeFlags.register(cmd)
	f.readFlags.register(cmd)
	cmd.Flags().BoolVar(&f.report, "report", false, "print cost and token to standard error")
	return cmd
}

func (a *app) export(ctx context.Context, c *client.Client, keys client.Keys, how levelAndPlace, wantsReport bool) error {
	began := time.Now()
	var report client.ScanReport
	bar := &bar{}
	if !isTerminal(a.stdout) { // where the records are seen to go by
		bar = a.newBar("reading", -1, true)
	}
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	size, err := exportTo(out, c.Scan(ctx, keys, append(how.scan(), client.BySlot(), client.WithReport(&report))...),
		&lifetimes{ctx: ctx, client: c}, bar.add)
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	bar.finish()
	a.note("%s records, %s in %.1f s", humanize.Comma(int64(report.Items)), humanize.IBytes(uint64(size)), time.Since(began).Seconds())
	if err == nil && wantsReport {
		a.printReport(report)
	}
	return err
}

func exportTo(out io.Writer, found func(func(client.Item, error) bool), left *lifetimes, progress func(int)) (size int64, err error) {
	var line []byte
	for item, err := range found {
		if err != nil {
			return size, err
		}
		record := ndjson.Record{Key: item.Key, Value: item.Value}
		if !item.Expires.IsZero() {
			record.TTL = left.of(item)
		}
		line = ndjson.AppendLine(line[:0], &record)
		if _, err := out.Write(line); err != nil {
			return size, err
		}
		size += int64(len(line))
		progress(len(line))
	}
	return size, nil
}

// lifetimes knows what keys have left to live. Their deadlines are in the cluster's
// time, which this machine's clock may be far from.
type lifetimes struct {
	ctx    context.Context
	client *client.Client
	known  bool
	ahead  time.Duration // the cluster's time before this machine's clock
}

func (l *lifetimes) of(item client.Item) time.Duration {
	if !l.known {
		// The client has an estimate of the cluster's time, and this is how it tells.
		// A key that is gone or due by now tells nothing; then the next one does.
		r, err := l.client.TTL(l.ctx, item.Key, client.Any())
		if err == nil && r.Left > 0 {
			l.known, l.ahead = true, time.Until(r.Expires)-r.Left
		}
	}
	return max(time.Millisecond, time.Until(item.Expires)-l.ahead)
}
