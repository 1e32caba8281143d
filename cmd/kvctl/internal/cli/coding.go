package cli

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// coding is how keys and values are written on the command line and printed.
type coding struct{ hex, base64 bool }

func (c *coding) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.hex, "hex", false, "keys and values are hexadecimal, in arguments and in what is printed")
	cmd.Flags().BoolVar(&c.base64, "base64", false, "keys and values are base64, in arguments and in what is printed")
}

// decode reads an argument; what names it in the error.
func (c coding) decode(what, text string) (string, error) {
	switch {
	case c.hex && c.base64:
		return "", usageErrorf("", "--hex and --base64 exclude each other")
	case c.hex:
		raw, err := hex.DecodeString(text)
		if err != nil {
			return "", usageErrorf("--hex takes two digits a byte, as in 00ff", "%s: %q is not hexadecimal", what, text)
		}
		return string(raw), nil
	case c.base64:
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return "", usageErrorf("--base64 takes standard base64 with its padding, as in AP8=", "%s: %q is not base64", what, text)
		}
		return string(raw), nil
	}
	return text, nil
}

// plain is how bytes are printed where nothing else stands on the line, or where
// the reader asked for them as they are.
func (c coding) plain(raw string) string {
	switch {
	case c.hex:
		return hex.EncodeToString([]byte(raw))
	case c.base64:
		return base64.StdEncoding.EncodeToString([]byte(raw))
	}
	return raw
}

// shown is how bytes are printed on a line with others: as they are if they are
// printable text, and otherwise quoted, so that a line is always one line and can
// be read in one way only.
func (c coding) shown(raw string) string {
	text := c.plain(raw)
	printable := utf8.ValidString(text) && !strings.HasPrefix(text, `"`) && !strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r)
	})
	if printable {
		return text
	}
	return strconv.Quote(text)
}

// name is that of a member or column that holds bytes.
func (c coding) name(name string) string {
	switch {
	case c.hex:
		return name + "_hex"
	case c.base64:
		return name + "_base64"
	}
	return name
}

// field shows bytes in JSON: text as it is, and in base64 under another name if
// they are no text, in the form that import reads.
func (c coding) field(name, raw string) member {
	if !c.hex && !utf8.ValidString(raw) {
		c.base64 = true
	}
	return member{c.name(name), c.plain(raw)}
}
