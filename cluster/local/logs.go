package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// followPause is how long Logs rests when no log has grown.
const followPause = 200 * time.Millisecond

// LogOptions says what Logs prints.
type LogOptions struct {
	Names  []string // empty means all
	Tail   int      // start with the last so many lines of each; negative means all
	Follow bool     // go on with what is written until ctx ends
}

// Logs writes node logs to w, each line with the node's name in front when
// there are several. With Follow it returns nil when ctx ends.
func (c *Cluster) Logs(ctx context.Context, w io.Writer, opts LogOptions) error {
	st, err := c.load()
	if err != nil {
		return err
	}
	nodes, err := c.choose(st, opts.Names)
	if err != nil {
		return err
	}
	tails := make([]*tail, len(nodes))
	for i, n := range nodes {
		tails[i] = &tail{path: c.LogPath(n.Name)}
		if len(nodes) > 1 {
			tails[i].prefix = n.Name + " | "
		}
		if opts.Tail >= 0 {
			if err := tails[i].skipTo(opts.Tail); err != nil {
				return err
			}
		}
	}
	for {
		for _, t := range tails {
			if err := t.copyTo(ctx, w, opts.Follow); err != nil {
				return err
			}
		}
		if !opts.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followPause):
		}
	}
}

// tail reads a log from offset on, in whole lines.
type tail struct {
	path   string
	prefix string
	offset int64
	broken bool // the last line written had no end yet
}

const logChunk = 64 << 10

// copyTo writes what there is. With wholeLines an unfinished last line waits
// for its end, so that lines of several nodes do not run into each other;
// otherwise it gets one.
func (t *tail) copyTo(ctx context.Context, w io.Writer, wholeLines bool) error {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // never started
	}
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, logChunk+1)
	for ctx.Err() == nil {
		n, err := f.ReadAt(buf[:logChunk], t.offset)
		if err != nil && err != io.EOF {
			return err
		}
		end := bytes.LastIndexByte(buf[:n], '\n') + 1
		if end == 0 && n == logChunk {
			end = n // a line longer than a chunk goes in pieces
		}
		if end == 0 && n > 0 && !wholeLines {
			buf[n] = '\n'
			end = n + 1
		}
		if end == 0 {
			return nil
		}
		t.offset += int64(end)
		if err := t.print(w, buf[:end]); err != nil {
			return err
		}
	}
	return nil
}

func (t *tail) print(w io.Writer, text []byte) error {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		if !t.broken {
			out.WriteString(t.prefix)
		}
		out.Write(line)
		t.broken = line[len(line)-1] != '\n'
	}
	_, err := w.Write(out.Bytes())
	return err
}

// skipTo moves the offset to the start of the last n lines, reading backwards.
func (t *tail) skipTo(n int) error {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	end := info.Size()
	if n == 0 {
		t.offset = end
		return nil
	}
	buf := make([]byte, logChunk)
	for at := end; at > 0; {
		size := min(at, logChunk)
		at -= size
		if _, err := f.ReadAt(buf[:size], at); err != nil && err != io.EOF {
			return err
		}
		for i := size - 1; i >= 0; i-- {
			// The end of the last line does not start another one.
			if buf[i] != '\n' || at+i == end-1 {
				continue
			}
			if n--; n == 0 {
				t.offset = at + i + 1
				return nil
			}
		}
	}
	return nil
}
