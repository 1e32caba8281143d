package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/cmd/kvctl/internal/ndjson"
)

// importTimeout is how long one record may take, repetitions included, unless
// --timeout says otherwise: longer than an election or a quick restart.
const importTimeout = 30 * time.Second

type importFlags struct {
	verifyOnly, skipBad, keepGoing bool
	concurrency                    int
	inFlight                       int64
	rate                           float64
	acks                           string
}

func (a *app) importCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:        "import FILE|-",
		SuggestFor: []string{"load", "restore"},
		Short:      "Write many records from NDJSON, or compare them",
		Long: `Write many records from NDJSON: one {"key": …, "value": …} object a line, or
"key_base64" and "value_base64" for bytes that are not text, and "ttl_ms" for the
milliseconds that the key is to live. kvctl export writes such lines. - reads
standard input.

Many writes are under way at a time; those of one key keep their order, so that
the last line wins. The import stops at the first line that is no record
(--skip-bad counts it and goes on) and at the first write that fails or is in
doubt (--keep-going goes on). Each record is repeated for up to ` + importTimeout.String() + ` or
--timeout, so that elections and restarts of nodes do not end the import.

At the end the counts are on standard error; with -o json they are on standard
output: records, acknowledged, failed, in_doubt, bad_lines, bytes, seconds,
records_per_second.

--verify-only writes nothing: it reads all keys back and compares their values,
each with its last line; not what they have left to live. Nothing missing and nothing different exits with 0, else
with 9. -o json has records, keys, equal, missing, different, unreadable,
bad_lines, seconds, keys_per_second, examples.

--acks FILE appends a line for each acknowledged record at once, so that after a
crash of anything --verify-only --acks FILE can check exactly these. A later
line of the same key than the acknowledged one is right too: it may have been
written without an acknowledgement.`,
		Example: `  kvctl import packages.ndjson
  zcat dump.gz | kvctl import - --rate 5000
  kvctl export --context old | kvctl import - --context new
  kvctl import --verify-only packages.ndjson`,
		Args:        arguments("FILE"),
		Annotations: map[string]string{needsTarget: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.validate(); err != nil {
				return err
			}
			return a.runImport(cmd.Context(), f, args[0])
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.verifyOnly, "verify-only", false, "compare instead of write")
	flags.IntVar(&f.concurrency, "concurrency", 256, "operations under way at a time")
	flags.Int64Var(&f.inFlight, "in-flight-bytes", 16<<20, "bytes of keys and values under way at a time")
	flags.Float64Var(&f.rate, "rate", 0, "operations per second, 0 for as many as possible")
	flags.BoolVar(&f.skipBad, "skip-bad", false, "pass over lines that are no records, and count them")
	flags.BoolVar(&f.keepGoing, "keep-going", false, "go on after an operation that failed")
	flags.StringVar(&f.acks, "acks", "", "file of acknowledgements: appended to, or read by --verify-only")
	return cmd
}

func (f importFlags) validate() error {
	var faults []error
	if f.concurrency < 1 || f.concurrency > 100_000 {
		faults = append(faults, fmt.Errorf("--concurrency: %d is not in 1 to 100000", f.concurrency))
	}
	if f.inFlight < 1 {
		faults = append(faults, fmt.Errorf("--in-flight-bytes: %d is not positive", f.inFlight))
	}
	if f.rate < 0 {
		faults = append(faults, fmt.Errorf("--rate: %v is negative", f.rate))
	}
	if err := errors.Join(faults...); err != nil {
		return usageErrorf("", "%w", err)
	}
	return nil
}

func (a *app) runImport(ctx context.Context, f importFlags, name string) error {
	input, size, err := a.openInput(ctx, name)
	if err != nil {
		return err
	}
	defer input.Close()
	c, err := a.openClient(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	opts := ndjson.Options{
		Concurrency: f.concurrency, MaxBytes: f.inFlight, Rate: f.rate,
		SkipBad: f.skipBad, KeepGoing: f.keepGoing, Timeout: importTimeout,
	}
	if a.settings.TimeoutGiven {
		opts.Timeout = a.settings.Timeout
	}
	what := "writing"
	if f.verifyOnly {
		what = "comparing"
	}
	bar := a.newBar(what, size, true)
	opts.Progress = bar.add
	if f.verifyOnly {
		return a.verify(ctx, f, name, input, records{c}, opts, bar)
	}
	return a.load(ctx, f, name, input, records{c}, opts, bar)
}

// openInput opens a file or standard input; size is -1 when it is not known.
func (a *app) openInput(ctx context.Context, name string) (input io.ReadCloser, size int64, err error) {
	if name == "-" {
		return io.NopCloser(interruptible{ctx, a.stdin}), -1, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, usageErrorf("", "%w", err)
	}
	info, err := file.Stat()
	if err != nil || info.IsDir() {
		file.Close()
		return nil, 0, usageErrorf("", "%s is not a file that can be read", name)
	}
	if !info.Mode().IsRegular() {
		return struct {
			io.Reader
			io.Closer
		}{interruptible{ctx, file}, file}, -1, nil
	}
	return file, info.Size(), nil
}

func (a *app) load(ctx context.Context, f importFlags, name string, input io.Reader, to records, opts ndjson.Options, bar *bar) error {
	if f.acks != "" {
		file, err := os.OpenFile(f.acks, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return usageErrorf("", "%w", err)
		}
		defer file.Close()
		opts.Acks = ndjson.NewAcks(file)
	}
	result, err := ndjson.Load(ctx, input, to, opts)
	err = inFile(name, err)
	bar.finish()
	if a.wantsJSON() {
		if err := a.printJSON(result); err != nil {
			return err
		}
	}
	a.note("%s records: %s acknowledged, %d failed, %d in doubt, %d bad lines; %s in %.1f s, %s records/s",
		humanize.Comma(int64(result.Records)), humanize.Comma(int64(result.Acknowledged)), result.Failed, result.InDoubt,
		result.BadLines, humanize.IBytes(uint64(result.Bytes)), result.Seconds, humanize.Comma(int64(result.PerSecond)))
	if result.InDoubt > 0 {
		return &commandError{code: exitOutcomeUnknown, err: err, hint: "repeat the import: writing the same values again does no harm"}
	}
	return inputError(err)
}

func (a *app) verify(ctx context.Context, f importFlags, name string, input io.Reader, from records, opts ndjson.Options, bar *bar) error {
	var acked ndjson.Acked
	if f.acks != "" {
		file, err := os.Open(f.acks)
		if err != nil {
			return usageErrorf("", "%w", err)
		}
		acked, err = ndjson.ReadAcks(file)
		file.Close()
		if err != nil {
			return usageErrorf("give a file that import --acks has written", "%s: %w", f.acks, err)
		}
	}
	found, err := ndjson.Verify(ctx, input, from, acked, opts)
	err = inFile(name, err)
	bar.finish()
	if a.wantsJSON() {
		if err := a.printJSON(found); err != nil {
			return err
		}
	}
	for _, p := range found.Examples {
		a.note("line %d: %q: %s", p.Line, p.Key, p.Problem)
	}
	a.note("%s keys: %s equal, %d missing, %d different, %d unreadable, %d bad lines; %.1f s, %s keys/s",
		humanize.Comma(int64(found.Keys)), humanize.Comma(int64(found.Equal)), found.Missing, found.Different, found.Unreadable,
		found.BadLines, found.Seconds, humanize.Comma(int64(found.PerSecond)))
	if found.Missing+found.Different > 0 {
		return &commandError{code: exitUnhealthy, err: errors.Join(
			fmt.Errorf("%d keys are missing and %d have another value", found.Missing, found.Different), err)}
	}
	if err == nil && acked != nil && found.Keys < len(acked) {
		return usageErrorf("give the file that was imported", "%d acknowledged keys are not in the input", len(acked)-found.Keys)
	}
	return inputError(err)
}

// inFile says which file the line of an error is in.
func inFile(name string, err error) error {
	bad, failed := (*ndjson.LineError)(nil), (*ndjson.RecordError)(nil)
	if !errors.As(err, &bad) && !errors.As(err, &failed) {
		return err
	}
	if name == "-" {
		name = "standard input"
	}
	return fmt.Errorf("%s: %w", name, err)
}

// inputError gives a line that cannot be used the exit code of bad input.
func inputError(err error) error {
	if bad := (*ndjson.LineError)(nil); errors.As(err, &bad) {
		return usageErrorf("--skip-bad passes over such lines and counts them", "%w", err)
	}
	return err
}
