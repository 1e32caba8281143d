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
			"get": func() error { return a.printItem(client.Item{Key: key, Value: []byte("v")}) },
			"put": func() error { return a.printWritten(key, 1) },
		} {
			out.Reset()
			if err := show(); err != nil || !strings.Contains(out.String(), want) || strings.Count(out.String(), `"key`) != 1 {
				t.Errorf("%s %q: %s, %v", what, key, out.String(), err)
			}
		}
	}
}
