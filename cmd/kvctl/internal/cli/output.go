package cli

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"unicode/utf8"
)

func (a *app) printJSON(v any) error {
	encoder := json.NewEncoder(a.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func (a *app) wantsJSON() bool { return a.settings.Output == "json" }

// table prints rows with aligned columns. Cells are separated by tabs.
func (a *app) table(header string, rows []string) error {
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, header)
	for _, row := range rows {
		fmt.Fprintln(w, row)
	}
	return w.Flush()
}

// textOrBytes shows bytes in JSON as they are if they are text, and in base64
// under another name if they are not, in the form that import reads.
type textOrBytes struct {
	Text  *string `json:"value,omitempty"`
	Bytes []byte  `json:"value_base64,omitempty"`
}

// textOrBytesKey does the same for a key; one that is not text is only there in
// base64.
type textOrBytesKey struct {
	Text  *string `json:"key,omitempty"`
	Bytes []byte  `json:"key_base64,omitempty"`
}

func jsonKey(key string) textOrBytesKey {
	if !utf8.ValidString(key) {
		return textOrBytesKey{Bytes: []byte(key)}
	}
	return textOrBytesKey{Text: &key}
}

func jsonValue(value []byte) textOrBytes {
	if !utf8.Valid(value) {
		return textOrBytes{Bytes: value}
	}
	text := string(value)
	return textOrBytes{Text: &text}
}
