package snapshot

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/ringfort/ringfort/internal/kverr"
)

func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// sealed puts a right checksum under what a test has bent.
func sealed(b []byte) []byte { return binary.BigEndian.AppendUint32(b, crcOf(b)) }

func TestDescriptor_RoundTripAndDamage(t *testing.T) {
	d := testDescriptor()
	whole := d.Encode()
	if got, err := DecodeDescriptor(whole); err != nil || got != d {
		t.Fatal(got, err)
	}
	for i := range whole {
		for bit := range 8 {
			bent := bytes.Clone(whole)
			bent[i] ^= 1 << bit
			if _, err := DecodeDescriptor(bent); err == nil {
				t.Errorf("flip at %d.%d is accepted", i, bit)
			}
		}
		if _, err := DecodeDescriptor(whole[:i]); err == nil {
			t.Errorf("cut to %d is accepted", i)
		}
	}
	if _, err := DecodeDescriptor(append(bytes.Clone(whole), 0)); err == nil {
		t.Error("one byte more is accepted")
	}
	newer := bytes.Clone(whole[:len(whole)-4])
	newer[0]++
	_, err := DecodeDescriptor(sealed(newer))
	wantKind(t, "newer format", err, kverr.Format)
	// The same numbers in other bytes: the replica's 12 as 0x8c 0x00.
	at := bytes.IndexByte(whole, testReplica)
	other := slices.Concat(whole[:at], []byte{testReplica | 0x80, 0}, whole[at+1:len(whole)-4])
	if _, err := DecodeDescriptor(sealed(other)); err == nil {
		t.Error("a number with a leading zero is accepted")
	}
	for name, bend := range map[string]func(*Descriptor){
		"name with a way out": func(d *Descriptor) { d.Name = "../state" },
		"no name":             func(d *Descriptor) { d.Name = "" },
		"long name":           func(d *Descriptor) { d.Name = strings.Repeat("a", maxNameBytes+1) },
		"empty arc":           func(d *Descriptor) { d.Arc.To = d.Arc.From },
		"arc past the end":    func(d *Descriptor) { d.Arc.To = 20000 },
	} {
		e := d
		bend(&e)
		if _, err := DecodeDescriptor(e.Encode()); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := ReadDescriptor(strings.NewReader(strings.Repeat("x", maxDescriptorBytes+1))); err == nil {
		t.Error("more than a descriptor is accepted")
	}
}

func testManifest() manifest {
	files := []file{{1 << 25, 1}, {300, 1<<64 - 1}}
	t := newTotals()
	for _, f := range files {
		t.add(f.bytes, f.sum)
	}
	d := testDescriptor()
	d.Files, d.Bytes, d.Sum = t.files, t.bytes, t.sums.Sum64()
	return manifest{d, files}
}

func TestManifest_AgreesWithItself(t *testing.T) {
	m := testManifest()
	got, err := decodeManifest(m.encode())
	if err != nil || got.descriptor != m.descriptor || len(got.files) != 2 || got.files[1] != m.files[1] {
		t.Fatal(got, err)
	}
	for name, bend := range map[string]func(*manifest){
		"fewer files":   func(m *manifest) { m.files = m.files[:1] },
		"other order":   func(m *manifest) { m.files = []file{m.files[1], m.files[0]} },
		"another sum":   func(m *manifest) { m.files = []file{m.files[0], {300, 7}} },
		"another bytes": func(m *manifest) { m.files = []file{m.files[0], {301, 1<<64 - 1}} },
	} {
		n := m
		bend(&n)
		if _, err := decodeManifest(n.encode()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	whole := m.encode()
	newer := bytes.Clone(whole[:len(whole)-4])
	newer[0]++
	_, err = decodeManifest(sealed(newer))
	wantKind(t, "newer format", err, kverr.Format)
}

func FuzzDescriptor(f *testing.F) {
	f.Add(testDescriptor().Encode())
	f.Add([]byte{descriptorFormat, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, sealed(bytes.Clone(b))} {
			if d, err := DecodeDescriptor(b); err == nil && !bytes.Equal(d.Encode(), b) {
				t.Errorf("%x decodes to %+v, which is %x", b, d, d.Encode())
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add(testManifest().encode())
	f.Add([]byte{manifestFormat, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, sealed(bytes.Clone(b))} {
			m, err := decodeManifest(b)
			if err != nil {
				continue
			}
			again, err := decodeManifest(m.encode())
			if err != nil || again.descriptor != m.descriptor || len(again.files) != len(m.files) {
				t.Errorf("%x: %+v, then %+v, %v", b, m, again, err)
			}
		}
	})
}
