package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/ringfort/ringfort/client"
)

// withStream opens a client for something that goes on for as long as it takes:
// the timeout bounds each silence, not the whole.
func (a *app) withStream(ctx context.Context, do func(*client.Client) error) error {
	c, err := a.openClient(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(c), c.Close())
}

// lines writes things to standard output, one a line, in any form.
type lines struct {
	coding
	output string
	out    *bufio.Writer
	csv    *csv.Writer
	begun  bool // of a JSON array
}

func (a *app) newLines(c coding) *lines {
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	return &lines{coding: c, output: a.settings.Output, out: out, csv: csv.NewWriter(out)}
}

// object writes one element of a JSON array, or one line of NDJSON.
func (l *lines) object(o object) error {
	if l.output != "json" {
		return l.ndjson(o)
	}
	before := ",\n  "
	if !l.begun {
		before, l.begun = "[\n  ", true
	}
	l.out.WriteString(before)
	text, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	l.out.Write(text)
	return l.failed()
}

// ndjson writes an object on a line of its own.
func (l *lines) ndjson(o object) error {
	text, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	l.out.Write(text)
	l.out.WriteByte('\n')
	return l.failed()
}

// line writes cells with tabs between, as they are.
func (l *lines) line(cells ...string) error {
	for i, cell := range cells {
		if i > 0 {
			l.out.WriteByte('\t')
		}
		l.out.WriteString(cell)
	}
	l.out.WriteByte('\n')
	return l.failed()
}

// row writes a line of CSV.
func (l *lines) row(cells ...string) error { return l.csv.Write(cells) }

// failed is what a write has met: a writer with an error takes no more.
func (l *lines) failed() error {
	_, err := l.out.Write(nil)
	return err
}

func (l *lines) flush() error {
	l.csv.Flush()
	return cmp.Or(l.csv.Error(), l.out.Flush()) // the second would say the same again
}

// end closes a JSON array, and leaves it open after an error: what is not the
// whole must not look like it.
func (l *lines) end(err error) error {
	switch {
	case err != nil || l.output != "json":
	case l.begun:
		l.out.WriteString("\n]\n")
	default:
		l.out.WriteString("[]\n")
	}
	return cmp.Or(err, l.flush())
}

// items writes what a scan finds.
type items struct {
	*lines
	keysOnly bool
}

func (a *app) newItems(c coding, keysOnly bool) (*items, error) {
	i := &items{lines: a.newLines(c), keysOnly: keysOnly}
	if i.output != "csv" {
		return i, nil
	}
	return i, i.row(i.columns(i.name("key"), i.name("value"), "version", "expires")...)
}

// columns leaves out the value if only keys are wanted.
func (i *items) columns(key, value, version, expires string) []string {
	all := []string{key, value, version, expires}
	if i.keysOnly {
		all = slices.Delete(all, 1, 2)
	}
	return all
}

func (i *items) item(item client.Item) error {
	value := string(item.Value)
	switch i.output {
	case "json", "ndjson":
		o := object{i.field("key", item.Key)}
		if !i.keysOnly {
			o = append(o, i.field("value", value))
		}
		o = append(o, member{"version", item.Version})
		if !item.Expires.IsZero() {
			o = append(o, member{"expires", instant(item.Expires)})
		}
		return i.object(o)
	case "csv":
		expires := ""
		if !item.Expires.IsZero() {
			expires = fmt.Sprint(instant(item.Expires))
		}
		return i.row(i.columns(i.plain(item.Key), i.plain(value), strconv.FormatUint(item.Version, 10), expires)...)
	case "raw":
		if i.keysOnly {
			return i.line(i.plain(item.Key))
		}
		return i.line(i.plain(item.Key), i.plain(value))
	}
	if i.keysOnly {
		return i.line(i.shown(item.Key))
	}
	return i.line(i.shown(item.Key), i.shown(value))
}
