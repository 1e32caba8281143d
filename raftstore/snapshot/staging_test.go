package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
)

// TestSN3_EveryFlippedOrMissingByteIsFound: in every file of a staging, at every
// position, whether found by Take in the same life or by Recover and Take in the next.
func TestSN3_EveryFlippedOrMissingByteIsFound(t *testing.T) {
	fs := vfs.NewMem()
	s := openStaging(t, fs, nil, nil).recover(nothing)
	d := s.receive(record(t, 2))
	if d.Files < 2 {
		t.Fatalf("only %d files", d.Files)
	}
	files, err := fs.List(s.path(d.Name, ""))
	fatal(t, err)
	if len(files) != int(d.Files)+1 {
		t.Fatalf("files %v", files)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	damaged := 0
	for _, name := range files {
		name := s.path(d.Name, name)
		whole := readFile(t, fs, name)
		try := func(what string, content []byte) {
			t.Helper()
			damaged++
			writeFile(t, fs, name, content)
			if paths, err := s.Take(d); err == nil || paths != nil {
				t.Errorf("%s %s: taken", name, what)
				fatal(t, s.Done(d))
			}
		}
		for i := range whole {
			bent := append([]byte(nil), whole...)
			bent[i] ^= 1 << rng.IntN(8)
			try(fmt.Sprint("flipped at ", i), bent)
		}
		for n := 0; n < len(whole); n += 1 + rng.IntN(7) {
			try(fmt.Sprint("cut to ", n), whole[:n])
		}
		try("with one byte more", append(append([]byte(nil), whole...), 0))
		fatal(t, fs.Remove(name))
		if _, err := s.Take(d); err == nil {
			t.Errorf("%s is gone: taken", name)
		}
		writeFile(t, fs, name, whole)
	}
	t.Logf("%d kinds of damage", damaged)
	if _, err := s.Take(d); err != nil { // and whole again it is taken
		t.Error(err)
	}
}

func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	fatal(t, err)
	info, err := f.Stat()
	fatal(t, err)
	b := make([]byte, info.Size())
	_, err = f.ReadAt(b, 0)
	fatal(t, err)
	fatal(t, f.Close())
	return b
}

func writeFile(t testing.TB, fs vfs.FS, name string, content []byte) {
	t.Helper()
	f, err := fs.Create(name, diskWrites)
	fatal(t, err)
	_, err = f.Write(bytes.Clone(content)) // which it may change
	fatal(t, err)
	fatal(t, errors.Join(f.Sync(), f.Close()))
}

// TestSN3_DamageOnTheWayIsFound: a stream that is not the sender's, by any single
// change, becomes no complete staging.
func TestSN3_DamageOnTheWayIsFound(t *testing.T) {
	r := record(t, 3)
	s := openStaging(t, vfs.NewMem(), nil, nil).recover(nothing)
	cases := 0
	try := func(what string, steps []func(Sink) error) {
		t.Helper()
		cases++
		in, err := s.Begin(testOffer())
		fatal(t, err)
		if err := (&recorded{steps: steps}).play(in); err == nil && in.Descriptor() != nil {
			t.Errorf("%s: complete", what)
		} else if err != nil && kverr.KindOf(err) != kverr.Invalid {
			t.Errorf("%s: %v", what, err)
		}
		if again := r.play(in); again == nil { // as if it were a new beginning
			t.Errorf("%s: goes on", what)
		}
		in.Abort()
		in.Abort()
		if names := s.names(); len(names) != 0 || s.Stats() != (StagingStats{}) {
			t.Fatalf("%s: %v left, %+v", what, names, s.Stats())
		}
	}
	replace := func(i int, by ...func(Sink) error) []func(Sink) error {
		steps := append([]func(Sink) error(nil), r.steps[:i]...)
		return append(append(steps, by...), r.steps[i+1:]...)
	}
	end := len(r.steps) - 1
	try("a file that does not end", replace(end, r.steps[0], r.steps[end]))
	large := make([]byte, maxPiece+1)
	try("a large chunk", replace(0, func(to Sink) error { return to.Chunk(large, crcOf(large)) }))
	for i, step := range r.steps {
		if r.kinds[i] == 'c' {
			try(fmt.Sprint("an empty chunk at ", i), replace(i, func(to Sink) error { return to.Chunk(nil, 0) }, step))
		}
		try(fmt.Sprint("without step ", i), replace(i))
		if i > 0 {
			try(fmt.Sprint("cut before step ", i), r.steps[:i])
		}
		if r.kinds[i] != 'e' { // more after the end is refused below
			try(fmt.Sprint("twice step ", i), replace(i, step, step))
		}
		if i+1 < len(r.steps) {
			swapped := append([]func(Sink) error(nil), r.steps...)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			try(fmt.Sprint("swapped steps at ", i), swapped)
		}
		for n := range 40 {
			rng := rand.New(rand.NewPCG(uint64(n), uint64(i)))
			try(fmt.Sprint("bent step ", i), replace(i, func(to Sink) error { return step(&bender{to, rng}) }))
		}
	}
	t.Logf("%d kinds of damage", cases)
	in, err := s.Begin(testOffer())
	fatal(t, err)
	fatal(t, r.play(in))
	wantKind(t, "more after the end", r.steps[0](in), kverr.Invalid)
	in.Abort()
}

// bender changes one bit of one step.
type bender struct {
	Sink
	rng *rand.Rand
}

func (b *bender) Chunk(data []byte, crc uint32) error {
	if b.rng.IntN(4) == 0 {
		return b.Sink.Chunk(data, crc^1<<b.rng.IntN(32))
	}
	data = append([]byte(nil), data...)
	switch b.rng.IntN(4) {
	case 0:
		data = data[:b.rng.IntN(len(data))]
	default:
		data[b.rng.IntN(len(data))] ^= 1 << b.rng.IntN(8)
	}
	return b.Sink.Chunk(data, crc)
}

func (b *bender) EndFile(bytes, sum uint64) error {
	bit := uint64(1) << b.rng.IntN(64)
	if b.rng.IntN(2) == 0 {
		return b.Sink.EndFile(bytes^bit, sum)
	}
	return b.Sink.EndFile(bytes, sum^bit)
}

func (b *bender) End(files, bytes, sum uint64) error {
	bit := uint64(1) << b.rng.IntN(64)
	switch b.rng.IntN(3) {
	case 0:
		return b.Sink.End(files^bit, bytes, sum)
	case 1:
		return b.Sink.End(files, bytes^bit, sum)
	}
	return b.Sink.End(files, bytes, sum^bit)
}

// TestSN3_CrashAtEveryStep: after a power cut at any failpoint, whatever is lost of
// what was not synced, the next life has either the whole staging or none.
func TestSN3_CrashAtEveryStep(t *testing.T) {
	r := record(t, 3)
	for _, percent := range []int{0, 30, 100} {
		fs := vfs.NewCrashableMem()
		var points failpoint.Set
		type crash struct {
			at failpoint.Name
			fs *vfs.MemFS
		}
		var crashes []crash
		points.Hook(func(n failpoint.Name) {
			for seed := range uint64(8) {
				crashes = append(crashes, crash{n, fs.CrashClone(vfs.CrashCloneCfg{
					UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, uint64(percent)))})})
			}
		})
		s := openStaging(t, fs, &points, nil).recover(nothing)
		d := s.receive(r)
		seen := map[failpoint.Name]bool{}
		for _, c := range crashes {
			seen[c.at] = true
			next := openStaging(t, c.fs, nil, nil).recover(everything)
			got, found := next.Find(d.Group, d.Index)
			if want := c.at == failpoint.SnapshotStaged; found != want {
				t.Errorf("%d%%, crash at %s: found %t", percent, c.at, found)
				continue
			}
			if !found {
				if names := next.names(); len(names) != 0 {
					t.Errorf("%d%%, crash at %s: %v left", percent, c.at, names)
				}
				continue
			}
			if got != d {
				t.Errorf("found %+v", got)
			}
			if paths, err := next.Take(got); err != nil || len(paths) != int(d.Files) {
				t.Errorf("%d%%, crash at %s: %v %v", percent, c.at, paths, err)
			}
			unwanted := openStaging(t, c.fs, nil, nil).recover(nothing)
			if names := unwanted.names(); len(names) != 0 {
				t.Errorf("nobody refers to %v", names)
			}
		}
		for _, n := range []failpoint.Name{failpoint.SnapshotStaging, failpoint.SnapshotFileKept, failpoint.SnapshotStaged} {
			if !seen[n] {
				t.Errorf("never at %s", n)
			}
		}
	}
}

// TestStaging_RecoverKeepsOnlyWhatIsWhole: a staging whose files Pebble has moved
// away, or whose manifest is damaged, is none; nor is anything else found there.
func TestStaging_RecoverKeepsOnlyWhatIsWhole(t *testing.T) {
	r := record(t, 3)
	for name, harm := range map[string]func(s *stagingRig, d Descriptor){
		"":                 func(*stagingRig, Descriptor) {},
		"a file is gone":   func(s *stagingRig, d Descriptor) { fatal(t, s.fs.Remove(s.path(d.Name, fileName(1)))) },
		"a file is short":  func(s *stagingRig, d Descriptor) { writeFile(t, s.fs, s.path(d.Name, fileName(0)), []byte("x")) },
		"no manifest":      func(s *stagingRig, d Descriptor) { fatal(t, s.fs.Remove(s.path(d.Name, manifestName))) },
		"another manifest": func(s *stagingRig, d Descriptor) { writeFile(t, s.fs, s.path(d.Name, manifestName), []byte("x")) },
		"a copied manifest": func(s *stagingRig, d Descriptor) {
			fatal(t, s.fs.Remove(s.path("file", "")))
			fatal(t, s.fs.MkdirAll(s.path("g9-r9-i9-9-8", ""), 0o700))
			writeFile(t, s.fs, s.path("g9-r9-i9-9-8", manifestName), readFile(t, s.fs, s.path(d.Name, manifestName)))
		},
		"another name": func(s *stagingRig, d Descriptor) {
			fatal(t, s.fs.Rename(s.path(d.Name, ""), s.path("g9-r9-i9-9-9", "")))
		},
	} {
		fs := vfs.NewMem()
		s := openStaging(t, fs, nil, nil).recover(nothing)
		d := s.receive(r)
		fatal(t, fs.MkdirAll("data/staging/rubbish/deep", 0o700))
		writeFile(t, fs, "data/staging/file", []byte("x"))
		harm(s, d)
		next := openStaging(t, fs, nil, nil)
		_, err := next.Begin(testOffer())
		wantKind(t, "begin before recover", err, kverr.Internal)
		removed, err := next.Recover(everything)
		fatal(t, err)
		whole := name == "" || name == "a copied manifest"
		if _, found := next.Find(d.Group, d.Index); found != whole {
			t.Errorf("%s: found %t", name, found)
		}
		wantRemoved, wantLeft := 3, 0
		if whole {
			wantRemoved, wantLeft = 2, 1
		}
		if names := next.names(); removed != wantRemoved || len(names) != wantLeft {
			t.Errorf("%s: removed %d, left %v", name, removed, names)
		}
	}
}

// TestSN4_Bounds: one transfer per replica, few per node, and the places are given
// back.
func TestSN4_Bounds(t *testing.T) {
	r := record(t, 1)
	s := openStaging(t, vfs.NewMem(), nil, nil).recover(nothing)
	offer := func(group uint64) Offer { o := testOffer(); o.Group = group; return o }
	a, err := s.Begin(offer(1))
	fatal(t, err)
	_, err = s.Begin(offer(1))
	wantKind(t, "same replica", err, kverr.Overloaded)
	b, err := s.Begin(offer(2))
	fatal(t, err)
	_, err = s.Begin(offer(3))
	wantKind(t, "too many", err, kverr.Overloaded)
	if st := s.Stats(); st.Incoming != 2 || st.Complete != 0 {
		t.Errorf("%+v", st)
	}
	a.Abort()
	wantKind(t, "after abort", r.play(a), kverr.Closed)
	c, err := s.Begin(offer(3))
	fatal(t, err)

	// Complete ones hold no place; the next of the same replica removes them.
	fatal(t, r.play(b))
	if st := s.Stats(); st.Incoming != 1 || st.Complete != 1 || st.Bytes != uint64(r.bytes) {
		t.Errorf("%+v", st)
	}
	d, err := s.Begin(offer(2))
	fatal(t, err)
	if len(s.names()) != 2 {
		t.Errorf("left %v", s.names())
	}
	first, err := DecodeDescriptor(b.Descriptor())
	fatal(t, err)
	_, err = s.Take(first)
	wantKind(t, "a replaced one", err, kverr.Unavailable)
	b.Abort() // must not touch its successor
	fatal(t, r.play(d))
	second, err := DecodeDescriptor(d.Descriptor())
	fatal(t, err)
	if _, err := s.Take(second); err != nil {
		t.Fatal(err)
	}
	_, err = s.Take(second)
	wantKind(t, "taken twice", err, kverr.Unavailable)
	_, err = s.Begin(offer(2))
	wantKind(t, "while it is ingested", err, kverr.Overloaded)
	fatal(t, s.Done(second))
	fatal(t, s.Done(second))
	d.Abort()
	e, err := s.Begin(offer(2))
	fatal(t, err)
	e.Abort()
	c.Abort()
	if names := s.names(); len(names) != 0 || s.Stats() != (StagingStats{}) {
		t.Errorf("left %v, %+v", names, s.Stats())
	}
	wantKind(t, "done with another directory", s.Done(Descriptor{Name: "../db"}), kverr.Invalid)
}

func TestStaging_RefusesWhatItCannotRead(t *testing.T) {
	s := openStaging(t, vfs.NewMem(), nil, nil).recover(nothing)
	for name, bend := range map[string]func(*Offer){
		"newer tables": func(o *Offer) { o.TableFormat = 8 },
		"no tables":    func(o *Offer) { o.TableFormat = 0 },
	} {
		o := testOffer()
		bend(&o)
		_, err := s.Begin(o)
		wantKind(t, name, err, kverr.Format)
	}
	o := testOffer()
	o.Arc.To = o.Arc.From
	_, err := s.Begin(o)
	wantKind(t, "no arc", err, kverr.Invalid)
	_, err = OpenStaging(StagingOptions{FS: vfs.NewMem(), Dir: "x", TableFormat: 7})
	wantKind(t, "no nonce", err, kverr.Invalid)
}

// TestSN5_RoomOnDisk: what is announced must fit beside what was announced before,
// and more than was announced must fit too.
func TestSN5_RoomOnDisk(t *testing.T) {
	var left uint64
	free := func(bytes uint64) { left = bytes }
	s := openStaging(t, vfs.NewMem(), nil, func(o *StagingOptions) {
		o.Room = func(bytes uint64) bool { return left >= 1<<20 && bytes <= left-1<<20 }
	}).recover(nothing)
	offer := func(group, bytes uint64) (*Incoming, error) {
		o := testOffer()
		o.Group, o.Bytes = group, bytes
		return s.Begin(o)
	}
	free(4 << 20)
	_, err := offer(1, 3<<20+1)
	wantKind(t, "too large", err, kverr.Unavailable)
	a, err := offer(1, 2<<20)
	fatal(t, err)
	_, err = offer(2, 1<<20+1)
	wantKind(t, "too large beside the other", err, kverr.Unavailable)
	_, err = offer(2, 1<<64-1)
	wantKind(t, "overflow", err, kverr.Unavailable)
	b, err := offer(2, 1<<20)
	fatal(t, err)
	b.Abort()
	if names := s.names(); len(names) != 1 {
		t.Errorf("left %v", names)
	}
	// More comes than was announced, until there is no room.
	piece := make([]byte, maxPiece)
	crc := crcOf(piece)
	var got uint64
	for err == nil && got < 256<<20 {
		free(100<<20 - min(got, 100<<20))
		if err = a.Chunk(bytes.Clone(piece), crc); err == nil {
			got += maxPiece
		}
	}
	wantKind(t, "more and more", err, kverr.Unavailable)
	if got < 64<<20 || got > 128<<20 {
		t.Errorf("refused after %d bytes", got)
	}
	a.Abort()
	if names := s.names(); len(names) != 0 {
		t.Errorf("left %v", names)
	}
}

// TestSN5_FailedWritesRefuseTheTransfer: whichever call of the file system fails,
// the transfer is refused as unavailable, nothing is left, and the next succeeds.
func TestSN5_FailedWritesRefuseTheTransfer(t *testing.T) {
	r := record(t, 3)
	mem := vfs.NewMem()
	failing, left := false, 0
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !failing || op.Kind == errorfs.OpRemoveAll || op.Kind == errorfs.OpFileClose || op.Kind == errorfs.OpGetDiskUsage {
			return nil
		}
		if left--; left < 0 {
			return syscall.ENOSPC
		}
		return nil
	}))
	s := openStaging(t, fs, nil, nil).recover(nothing)
	failures := 0
	for n := range 1000 {
		failing, left = true, n
		in, err := s.Begin(testOffer())
		if err == nil {
			err = r.play(in)
		}
		failing = false
		if in != nil && err != nil { // whoever does not notice must not succeed
			for _, step := range r.steps {
				_ = step(in)
			}
		}
		if err == nil {
			in.Abort()
			break
		}
		failures++
		if kverr.KindOf(err) != kverr.Unavailable || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("call %d: %v", n, err)
		}
		if in != nil {
			if in.Descriptor() != nil {
				t.Errorf("call %d: complete", n)
			}
			in.Abort()
		}
		if names := s.names(); len(names) != 0 || s.Stats() != (StagingStats{}) {
			t.Fatalf("call %d: %v left, %+v", n, names, s.Stats())
		}
	}
	if failures < 10 || failures > 100 {
		t.Errorf("only %d calls failed", failures)
	}
	d := s.receive(r)
	if _, err := s.Take(d); err != nil {
		t.Error(err)
	}
}

func TestStaging_NamesAreOurs(t *testing.T) {
	s := openStaging(t, vfs.NewMem(), nil, func(o *StagingOptions) { o.Nonce = 1<<64 - 1 }).recover(nothing)
	o := testOffer()
	o.Group, o.Replica, o.Index = 1<<64-1, 1<<64-1, 1<<64-1
	in, err := s.Begin(o)
	fatal(t, err)
	if !validName(in.name) || !strings.HasPrefix(in.name, "g18446744073709551615-r") {
		t.Errorf("name %s", in.name)
	}
	in.Abort()
}
