package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ringfort/ringfort/client"
)

// parseTxnText reads the form for people.
func parseTxnText(c coding, text string) (*transaction, error) {
	t := &transaction{}
	section := "then:"
	number := 0
	for line := range strings.Lines(text) {
		number++
		words, err := splitWords(strings.TrimRight(line, "\r\n"))
		if err == nil && len(words) > 0 {
			if is := words[0]; len(words) == 1 && (is == "if:" || is == "then:" || is == "else:") {
				section = is
				continue
			}
			err = t.take(c, section, words)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	return t, nil
}

func (t *transaction) take(c coding, section string, words []string) error {
	if section == "if:" {
		compare, err := compareOf(c, words)
		t.compares = append(t.compares, compare)
		return err
	}
	op, err := operationOf(c, words)
	if section == "then:" {
		t.then = append(t.then, op)
	} else {
		t.otherwise = append(t.otherwise, op)
	}
	return err
}

// splitWords splits a line as a shell would: "…" has Go's escapes, '…' none, and #
// at the begin of a word begins a comment.
func splitWords(line string) (words []string, err error) {
	for {
		line = strings.TrimLeftFunc(line, unicode.IsSpace)
		if line == "" || line[0] == '#' {
			return words, nil
		}
		var word string
		switch line[0] {
		case '"':
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, errors.New(`a word that begins with " has no end, or an escape that Go does not know`)
			}
			if word, err = strconv.Unquote(quoted); err != nil {
				return nil, fmt.Errorf("%s: %w", quoted, err)
			}
			line = line[len(quoted):]
		case '\'':
			var closed bool
			if word, line, closed = strings.Cut(line[1:], "'"); !closed {
				return nil, errors.New("a word that begins with ' has no end")
			}
		default:
			end := strings.IndexFunc(line, unicode.IsSpace)
			if end < 0 {
				end = len(line)
			}
			word, line = line[:end], line[end:]
			words = append(words, word)
			continue
		}
		if line != "" && !unicode.IsSpace(rune(line[0])) {
			return nil, fmt.Errorf("behind a quoted word there must be a space, not %q", line[0])
		}
		words = append(words, word)
	}
}

// forms says how the lines of a transaction look.
var forms = map[string]string{
	"version": "version KEY = N, or != < >", "value": "value KEY = VALUE, or != < >",
	"absent": "absent KEY", "present": "present KEY",
	"put": "put KEY VALUE [--ttl D | --keep-ttl] [--prev]", "del": "del KEY [--prev]", "add": "add KEY N",
	"get": "get KEY", "expire": "expire KEY D", "persist": "persist KEY",
}

func badForm(name string) error { return fmt.Errorf("it should be: %s", forms[name]) }

func compareOf(c coding, words []string) (none client.Compare, err error) {
	name, args := words[0], words[1:]
	want := map[string]int{"absent": 1, "present": 1, "version": 3, "value": 3}[name]
	switch {
	case want == 0:
		return none, fmt.Errorf("%q is no compare; there are version, value, absent and present", name)
	case len(args) != want:
		return none, badForm(name)
	}
	spec := compareSpec{}
	if spec.key, err = c.decode("KEY", args[0]); err != nil {
		return none, err
	}
	switch name {
	case "absent":
		spec.absent = true
	case "present":
		spec.present = true
	case "version":
		n, err := strconv.ParseUint(args[2], 10, 64)
		if err != nil {
			return none, fmt.Errorf("%q is no version", args[2])
		}
		spec.is, spec.version = args[1], &n
	case "value":
		value, err := c.decode("VALUE", args[2])
		if err != nil {
			return none, err
		}
		spec.is, spec.value = args[1], &value
	}
	return spec.compare()
}

func operationOf(c coding, words []string) (none operation, err error) {
	spec := opSpec{name: words[0]}
	args, err := spec.takeFlags(words[1:])
	if err != nil {
		return none, err
	}
	want := map[string]int{"put": 2, "del": 1, "add": 2, "get": 1, "expire": 2, "persist": 1}[spec.name]
	switch {
	case want == 0:
		return none, unknownOp(spec.name)
	case len(args) != want:
		return none, badForm(spec.name)
	}
	if spec.key, err = c.decode("KEY", args[0]); err != nil {
		return none, err
	}
	switch spec.name {
	case "put":
		value, err := c.decode("VALUE", args[1])
		if err != nil {
			return none, err
		}
		spec.value = &value
	case "add":
		n, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return none, fmt.Errorf("%q is no whole number of 64 bits", args[1])
		}
		spec.by = &n
	case "expire":
		spec.ttl = args[1]
	}
	return spec.operation()
}

// takeFlags takes the flags out of the words of put and del.
func (s *opSpec) takeFlags(words []string) (args []string, err error) {
	if s.name != "put" && s.name != "del" {
		return words, nil
	}
	for i := 0; i < len(words); i++ {
		// A key or value may begin with --; flags stand behind them.
		flag := words[i]
		if i < map[string]int{"put": 2, "del": 1}[s.name] {
			args = append(args, flag)
			continue
		}
		switch {
		case flag == "--prev":
			s.previous = true
		case flag == "--keep-ttl":
			s.keepTTL = true
		case flag == "--ttl" && i+1 < len(words):
			i++
			s.ttl = words[i]
		default:
			return nil, badForm(s.name)
		}
	}
	return args, nil
}

func unknownOp(name string) error {
	return fmt.Errorf("%q is no operation; there are put, del, add, get, expire and persist", name)
}

// compareSpec is a compare before it is known to make sense.
type compareSpec struct {
	key             string
	is              string // "" is "="
	version         *uint64
	value           *string
	absent, present bool
}

func (s compareSpec) compare() (none client.Compare, err error) {
	asked := 0
	for _, is := range []bool{s.version != nil, s.value != nil, s.absent, s.present} {
		if is {
			asked++
		}
	}
	switch {
	case asked != 1:
		return none, errors.New("a compare has one of version, value, absent and present")
	case (s.absent || s.present) && s.is != "":
		return none, errors.New(`absent and present have no "is"`)
	case s.absent:
		return client.KeyAbsent(s.key), nil
	case s.present:
		return client.KeyPresent(s.key), nil
	}
	byVersion := map[string]func(string, uint64) client.Compare{
		"": client.VersionIs, "=": client.VersionIs, "!=": client.VersionIsNot, "<": client.VersionBelow, ">": client.VersionAbove,
	}
	byValue := map[string]func(string, []byte) client.Compare{
		"": client.ValueIs, "=": client.ValueIs, "!=": client.ValueIsNot, "<": client.ValueBelow, ">": client.ValueAbove,
	}
	switch {
	case byVersion[s.is] == nil:
		return none, fmt.Errorf("%q is not one of = != < >", s.is)
	case s.version != nil:
		return byVersion[s.is](s.key, *s.version), nil
	}
	return byValue[s.is](s.key, []byte(*s.value)), nil
}

// opSpec is an operation before it is known to make sense.
type opSpec struct {
	name, key         string
	value             *string
	by                *int64
	ttl               string
	keepTTL, previous bool
}

func (s opSpec) operation() (op operation, err error) {
	if err := s.check(); err != nil {
		return op, err
	}
	var ttl time.Duration
	var opts []client.WriteOption
	if s.ttl != "" {
		if ttl, err = parseTTL("ttl", s.ttl); err != nil {
			return op, err
		}
	}
	if s.name == "put" && s.ttl != "" {
		opts = append(opts, client.WithTTL(ttl))
	}
	if s.keepTTL {
		opts = append(opts, client.KeepTTL())
	}
	if s.previous {
		opts = append(opts, client.WithPrevious())
	}
	op = operation{name: s.name, previous: s.previous}
	switch s.name {
	case "put":
		op.op = client.OpPut(s.key, []byte(*s.value), opts...)
	case "del":
		op.op = client.OpDelete(s.key, opts...)
	case "add":
		op.op = client.OpAdd(s.key, *s.by)
	case "get":
		op.op = client.OpGet(s.key)
	case "expire":
		op.op = client.OpExpire(s.key, ttl)
	case "persist":
		op.op = client.OpPersist(s.key)
	}
	return op, nil
}

// check wants of each operation what it takes, and nothing else.
func (s opSpec) check() error {
	if _, known := forms[s.name]; !known || s.name == "version" || s.name == "value" || s.name == "absent" || s.name == "present" {
		return unknownOp(s.name)
	}
	for what, is := range map[string]struct {
		given bool
		needs string
		takes string
	}{
		"value":    {s.value != nil, "put", "put"},
		"by":       {s.by != nil, "add", "add"},
		"ttl":      {s.ttl != "", "expire", "expire put"},
		"keep_ttl": {s.keepTTL, "", "put"},
		"prev":     {s.previous, "", "put del"},
	} {
		switch {
		case !is.given && is.needs == s.name:
			return fmt.Errorf("%s needs %q", s.name, what)
		case is.given && !strings.Contains(" "+is.takes+" ", " "+s.name+" "):
			return fmt.Errorf("%s takes no %q", s.name, what)
		}
	}
	if s.ttl != "" && s.keepTTL {
		return errors.New("ttl and keep_ttl exclude each other")
	}
	return nil
}
