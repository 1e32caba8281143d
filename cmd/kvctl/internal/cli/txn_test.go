package cli

import (
	"reflect"
	"strings"
	"testing"

	"github.com/ringfort/ringfort/client"
)

// Both forms mean the same.
func TestTxnForms(t *testing.T) {
	text := `# a comment
if:
  version {a}/v = 17   # and another
  version {a}/v != 1
  version {a}/v < 18
  version {a}/v > 16
  value {a}/s = "a b\x00\xff"
  value {a}/s != ''
  value {a}/s > 'a # "b'
  absent {a}/x
  present {a}/v
then:
  put {a}/p value --ttl 30s --prev
  put {a}/p -- --keep-ttl
  put "{a}/\x00\xff" ""
  del {a}/d --prev
  add {a}/n -5
  get {a}/n
  expire {a}/n 1m
  persist {a}/n
else:
  get {a}/s
`
	asJSON := ` {
"if": [
  {"key": "{a}/v", "version": 17},
  {"key": "{a}/v", "is": "!=", "version": 1},
  {"key": "{a}/v", "is": "<", "version": 18},
  {"key": "{a}/v", "is": ">", "version": 16},
  {"key": "{a}/s", "is": "=", "value_hex": "61206200ff"},
  {"key": "{a}/s", "is": "!=", "value": ""},
  {"key": "{a}/s", "is": ">", "value": "a # \"b"},
  {"key": "{a}/x", "absent": true},
  {"key": "{a}/v", "present": true}],
"then": [
  {"op": "put", "key": "{a}/p", "value": "value", "ttl": "30s", "prev": true},
  {"op": "put", "key": "{a}/p", "value": "--", "keep_ttl": true},
  {"op": "put", "key_base64": "e2F9LwD/", "value_base64": ""},
  {"op": "del", "key": "{a}/d", "prev": true},
  {"op": "add", "key": "{a}/n", "by": -5},
  {"op": "get", "key": "{a}/n"},
  {"op": "expire", "key_hex": "7b617d2f6e", "ttl": "1m"},
  {"op": "persist", "key": "{a}/n"}],
"else": [{"op": "get", "key": "{a}/s"}]}`
	a, err := parseTxnText(coding{}, text)
	if err != nil {
		t.Fatal(err)
	}
	b, err := parseTxnJSON([]byte(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v\n%+v", a, b)
	}
	if len(a.compares) != 9 || len(a.then) != 8 || len(a.otherwise) != 1 {
		t.Errorf("%+v", a)
	}
	want := client.OpPut("{a}/\x00\xff", []byte{})
	if !reflect.DeepEqual(a.then[2].op, want) {
		t.Errorf("%+v, want %+v", a.then[2].op, want)
	}
	if a, err = parseTxnText(coding{hex: true}, "put 00ff 0a"); err != nil || !reflect.DeepEqual(a.then[0].op, client.OpPut("\x00\xff", []byte("\n"))) {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestBadTxns(t *testing.T) {
	for text, want := range map[string]string{
		"put a":                       "line 1: it should be: put KEY VALUE",
		"put a b c":                   "it should be: put",
		"put a b --ttl":               "it should be: put",
		"put a b --ttl x":             "not a duration",
		"put a b --ttl -1s":           "not positive",
		"put a b --ttl 1s --keep-ttl": "exclude",
		"\n\nfrob a":                  `line 3: "frob" is no operation`,
		"absent a":                    `"absent" is no operation`,
		"del a b":                     "it should be: del",
		"add a x":                     "no whole number",
		"add a 9223372036854775808":   "no whole number",
		"get a --prev":                "it should be: get",
		"expire a":                    "it should be: expire",
		"if:\nput a b":                "line 2: \"put\" is no compare",
		"if:\nversion a 5":            "it should be: version",
		"if:\nversion a = x":          "no version",
		"if:\nvalue a ~ x":            `"~" is not one of = != < >`,
		`put a "b`:                    "has no end",
		`put a 'b`:                    "has no end",
		`put a "b"c`:                  "must be a space",
		`put a "\q"`:                  "escape",
	} {
		if _, err := parseTxnText(coding{}, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"then": [{"op": "put", "key": "a"}]}`:                   `then, number 1: put needs "value"`,
		`{"then": [{"op": "put", "value": "a"}]}`:                 `there is no "key"`,
		`{"then": [{"op": "get", "key": "a", "value": "b"}]}`:     `get takes no "value"`,
		`{"then": [{"op": "get", "key": "a", "ttl": "1s"}]}`:      `get takes no "ttl"`,
		`{"then": [{"op": "add", "key": "a"}]}`:                   `add needs "by"`,
		`{"then": [{"op": "add", "key": "a", "by": 1.5}]}`:        "by",
		`{"then": [{"op": "expire", "key": "a"}]}`:                `expire needs "ttl"`,
		`{"then": [{"op": "del", "key": "a", "keep_ttl": true}]}`: `del takes no "keep_ttl"`,
		`{"else": [{"op": "nop", "key": "a"}]}`:                   `else, number 1: "nop" is no operation`,
		`{"then": [{"op": "get", "key": "a", "key_hex": "00"}]}`:  "key and key_hex exclude each other",
		`{"then": [{"op": "get", "key_hex": "0"}]}`:               "key_hex: ",
		`{"then": [{"op": "get", "key": "a", "Key": "b"}]}`:       `unknown field "Key"`,
		`{"then": [{"op": "get", "key": "a", "key": "b"}]}`:       `"key" is there twice`,
		`{"than": []}`:    "than",
		`{"then": []} {}`: "more than one",
		`{"then": [`:      "has no end",
		`{"then": [{"op": "get", "key": "` + "\xff" + `"}]}`:   "not UTF-8",
		`{"if": [{"key": "a"}]}`:                               "if, number 1: a compare has one of",
		`{"if": [{"key": "a", "version": 1, "absent": true}]}`: "a compare has one of",
		`{"if": [{"key": "a", "version": -1}]}`:                "version",
		`{"if": [{"key": "a", "absent": true, "is": "="}]}`:    `no "is"`,
		`{"if": [{"key": "a", "value": "1", "is": ">="}]}`:     `">=" is not one of`,
	} {
		if _, err := parseTxnJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
