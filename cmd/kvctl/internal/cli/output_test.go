package cli

import (
	"bytes"
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
