package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
)

// Keys that are not text are shown in base64, not with U+FFFD for what is lost.
func TestKeysInJSON(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out, settings: config.Settings{Output: "json"}}
	for key, want := range map[string]string{
		"é":        `"key": "é"`,
		"\xff\x00": `"key_base64": "/wA="`,
	} {
		for what, show := range map[string]func() error{
			"get": func() error { return a.printItem(coding{}, client.Item{Key: key, Value: []byte("v")}, client.Token{}) },
			"put": func() error {
				return a.printWritten(coding{}, written{key: key, version: 1, session: client.NewSession()})
			},
		} {
			out.Reset()
			if err := show(); err != nil || !strings.Contains(out.String(), want) || strings.Count(out.String(), `"key`) != 1 {
				t.Errorf("%s %q: %s, %v", what, key, out.String(), err)
			}
		}
	}
}

// A line is one line, and can be read in one way only.
func TestShown(t *testing.T) {
	for raw, want := range map[string]string{
		"":           "",
		"a b":        "a b",
		"é😀":         "é😀",
		`{"a": "b"}`: `{"a": "b"}`,
		`"a"`:        `"\"a\""`,
		"a\nb":       `"a\nb"`,
		"a\tb":       `"a\tb"`,
		"a\x00":      `"a\x00"`,
		"\xff":       `"\xff"`,
		"\u2028":     `"\u2028"`,
		"\x1b[31m":   `"\x1b[31m"`,
	} {
		if got := (coding{}).shown(raw); got != want {
			t.Errorf("%q: %s, want %s", raw, got, want)
		}
	}
	if got := (coding{hex: true}).shown("a\n"); got != "610a" {
		t.Error(got)
	}
}

func TestCodingReadsWhatItPrints(t *testing.T) {
	for _, c := range []coding{{}, {hex: true}, {base64: true}} {
		for _, raw := range []string{"", "a", "\x00\xff", "é"} {
			if got, err := c.decode("KEY", c.plain(raw)); err != nil || got != raw {
				t.Errorf("%+v: %q, %v", c, got, err)
			}
		}
	}
	for _, bad := range []struct {
		c    coding
		text string
	}{{coding{hex: true}, "0"}, {coding{hex: true}, "zz"}, {coding{base64: true}, "YQ"}, {coding{hex: true, base64: true}, ""}} {
		if _, err := bad.c.decode("KEY", bad.text); exitCode(t.Context(), err) != exitUsage {
			t.Errorf("%+v takes %q: %v", bad.c, bad.text, err)
		}
	}
}

func TestObjectsKeepTheirOrder(t *testing.T) {
	text, err := object{{"z", 1}, {"a", object{{"<", nil}}}, {"m", "&\n"}}.MarshalJSON()
	if want := `{"z":1,"a":{"<":null},"m":"&\n"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

// K3: what is not the whole does not look like it.
func TestK3_AnErrorLeavesTheArrayOpen(t *testing.T) {
	for _, c := range []struct {
		items int
		err   error
		want  string
	}{
		{0, nil, "[]\n"},
		{1, nil, "[\n  {\"key\":\"k\",\"value\":\"v\",\"version\":5}\n]\n"},
		{1, client.ErrTimeout, "[\n  {\"key\":\"k\",\"value\":\"v\",\"version\":5}"},
		{0, client.ErrTimeout, ""},
	} {
		var out bytes.Buffer
		a := &app{stdout: &out, settings: config.Settings{Output: "json"}}
		list, err := a.newItems(coding{}, false)
		for range c.items {
			err = errors.Join(err, list.item(client.Item{Key: "k", Value: []byte("v"), Version: 5}))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := list.end(c.err); !errors.Is(err, c.err) || out.String() != c.want {
			t.Errorf("%d items, %v: %q, %v", c.items, c.err, out.String(), err)
		}
	}
}

// K3: who goes on from within a group would lose the rest of it.
func TestK3_OnlyTheLastOfAGroupHasAToken(t *testing.T) {
	token, err := client.ParseToken("AQEgNWQzOTlkM2Q1ZTZjODI4ODJiYWMxMmQzOTYwMjc3MjMEAKoVAACrFfHM0dCRsJgDAIBAAACrFcXv9dCRsJgDlS72Ig")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := &app{stdout: &out, settings: config.Settings{Output: "ndjson"}}
	group := client.Changes{Kind: client.ChangeSet, Version: 5, Token: token, Events: []client.Event{
		{Type: client.EventPut, Key: "a", Value: []byte{0xff}}, {Type: client.EventDelete, Key: "b"},
	}}
	if err := (&changes{lines: a.newLines(coding{})}).group(group); err != nil {
		t.Fatal(err)
	}
	want := `{"type":"put","key":"a","value_base64":"/w==","version":5}` + "\n" +
		`{"type":"delete","key":"b","version":5,"token":"` + token.String() + `"}` + "\n"
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}
