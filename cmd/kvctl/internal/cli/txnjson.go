package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ringfort/ringfort/cmd/kvctl/internal/ndjson"
)

// keyJSON and valueJSON are bytes as text, in base64 or in hexadecimal.
type keyJSON struct {
	Text   *string `json:"key"`
	Base64 *string `json:"key_base64"`
	Hex    *string `json:"key_hex"`
}

type valueJSON struct {
	Text   *string `json:"value"`
	Base64 *string `json:"value_base64"`
	Hex    *string `json:"value_hex"`
}

type compareJSON struct {
	keyJSON
	valueJSON
	Is      string  `json:"is"`
	Version *uint64 `json:"version"`
	Absent  bool    `json:"absent"`
	Present bool    `json:"present"`
}

type opJSON struct {
	Op string `json:"op"`
	keyJSON
	valueJSON
	By       *int64 `json:"by"`
	TTL      string `json:"ttl"`
	KeepTTL  bool   `json:"keep_ttl"`
	Previous bool   `json:"prev"`
}

type txnJSON struct {
	If   []compareJSON `json:"if"`
	Then []opJSON      `json:"then"`
	Else []opJSON      `json:"else"`
}

// parseTxnJSON reads the form for programs.
func parseTxnJSON(text []byte) (*transaction, error) {
	// encoding/json would repair what is no text without a word.
	if err := ndjson.CheckText(text); err != nil {
		return nil, err
	}
	if err := checkNames(json.NewDecoder(bytes.NewReader(text))); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var in txnJSON
	if err := decoder.Decode(&in); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	t := &transaction{}
	for i, c := range in.If {
		spec, err := c.spec()
		if err == nil {
			compare, flaw := spec.compare()
			t.compares, err = append(t.compares, compare), flaw
		}
		if err != nil {
			return nil, fmt.Errorf("if, number %d: %w", i+1, err)
		}
	}
	var err error
	if t.then, err = operationsOf("then", in.Then); err != nil {
		return nil, err
	}
	t.otherwise, err = operationsOf("else", in.Else)
	return t, err
}

// checkNames reads one JSON value, and refuses members that are there twice, or in
// other letters than they have: encoding/json would take the last one without a word.
func checkNames(decoder *json.Decoder) error {
	token, err := decoder.Token()
	if err != nil {
		return badJSON(err)
	}
	delim, _ := token.(json.Delim)
	if delim != '{' && delim != '[' {
		return nil
	}
	seen := map[string]bool{}
	for decoder.More() {
		if delim == '{' {
			if token, err = decoder.Token(); err != nil {
				return badJSON(err)
			}
			name, _ := token.(string)
			switch {
			case seen[name]:
				return fmt.Errorf("%q is there twice", name)
			case name != strings.ToLower(name):
				return fmt.Errorf("unknown field %q", name)
			}
			seen[name] = true
		}
		if err := checkNames(decoder); err != nil {
			return err
		}
	}
	if _, err = decoder.Token(); err != nil {
		return badJSON(err)
	}
	return nil
}

func badJSON(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the JSON object has no end")
	}
	return err
}

func operationsOf(list string, in []opJSON) (all []operation, err error) {
	for i, o := range in {
		spec := opSpec{name: o.Op, by: o.By, ttl: o.TTL, keepTTL: o.KeepTTL, previous: o.Previous}
		key, err := o.keyJSON.bytes()
		if err == nil {
			spec.key = *key
			spec.value, err = o.valueJSON.bytes()
		}
		var op operation
		if err == nil {
			op, err = spec.operation()
		}
		if err != nil {
			return nil, fmt.Errorf("%s, number %d: %w", list, i+1, err)
		}
		all = append(all, op)
	}
	return all, nil
}

func (c compareJSON) spec() (compareSpec, error) {
	key, err := c.keyJSON.bytes()
	if err != nil {
		return compareSpec{}, err
	}
	value, err := c.valueJSON.bytes()
	return compareSpec{key: *key, is: c.Is, version: c.Version, value: value, absent: c.Absent, present: c.Present}, err
}

func (k keyJSON) bytes() (*string, error) {
	key, err := oneOf("key", k.Text, k.Base64, k.Hex)
	if err == nil && key == nil {
		err = errors.New(`there is no "key"`)
	}
	return key, err
}

func (v valueJSON) bytes() (*string, error) { return oneOf("value", v.Text, v.Base64, v.Hex) }

// oneOf is nil if none is there.
func oneOf(name string, text, base64Text, hexText *string) (*string, error) {
	var given []string
	for i, is := range []*string{text, base64Text, hexText} {
		if is != nil {
			given = append(given, name+[]string{"", "_base64", "_hex"}[i])
		}
	}
	var raw []byte
	var err error
	switch {
	case len(given) > 1:
		return nil, fmt.Errorf("%s exclude each other", strings.Join(given, " and "))
	case base64Text != nil:
		raw, err = base64.StdEncoding.DecodeString(*base64Text)
	case hexText != nil:
		raw, err = hex.DecodeString(*hexText)
	default:
		return text, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", given[0], err)
	}
	decoded := string(raw)
	return &decoded, nil
}
