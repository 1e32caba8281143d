package client

import "testing"

func TestPrefixEnd(t *testing.T) {
	for p, want := range map[string]string{
		"a": "b", "ab": "ac", "": "", "\xff": "", "\xff\xff": "", "a\xff": "b", "a\xff\xff": "b",
		"a\xfe": "a\xff", "\xfd\xfe\xff": "\xfd\xff", "a\x00": "a\x01", "é": "\xc3\xaa",
	} {
		if got := prefixEnd(p); got != want {
			t.Errorf("%q: %q, want %q", p, got, want)
		}
	}
}
