package diskspace

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/quotafs"
	_ "github.com/ringfort/ringfort/internal/racebubble"
)

func TestLimitsSuitTheDisk(t *testing.T) {
	for _, c := range []struct {
		name         string
		total        uint64
		low, ballast int64
		want         limits
	}{
		{"256 MiB", 256 * mib, 0, 0, limits{low: 16 * mib, critical: 8 * mib, reserve: 4 * mib, ballast: 256 * mib / 100}},
		{"32 MiB", 32 * mib, 0, 0, limits{low: 8 * mib, critical: 4 * mib, reserve: 2 * mib, ballast: 32 * mib / 100}},
		{"1 GiB", gib, 0, 0, limits{low: gib / 20, critical: gib / 40, reserve: gib / 80, ballast: gib / 100}},
		{"1 TiB", 1024 * gib, 0, 0, limits{low: 4 * gib, critical: 2 * gib, reserve: gib, ballast: 256 * mib}},
		{"as asked", 1024 * gib, 100 * mib, 10 * mib, limits{low: 100 * mib, critical: 50 * mib, reserve: 25 * mib, ballast: 10 * mib}},
		{"never and none", gib, -1, -1, limits{}},
	} {
		got := limitsFor(c.total, c.low, c.ballast)
		if got.low/mib != c.want.low/mib || got.critical/mib != c.want.critical/mib || got.reserve/mib != c.want.reserve/mib ||
			got.ballast != c.want.ballast {
			t.Errorf("%s: %+v; want %+v", c.name, got, c.want)
		}
	}
}

func TestLevelsHaveHysteresis(t *testing.T) {
	l := limitsFor(gib, 100*mib, -1)
	level := OK
	for _, c := range []struct {
		free uint64
		want Level
	}{
		{500, OK}, {100, OK}, {99, Low}, {110, Low}, {124, Low}, {125, OK}, {60, Low}, {50, Low}, {49, Critical}, {60, Critical},
		{63, Low}, {10, Critical}, {200, OK}, {0, Critical}, {70, Low},
	} {
		if level = l.levelAt(c.free*mib, level); level != c.want {
			t.Errorf("at %d MiB: %v; want %v", c.free, level, c.want)
		}
	}
}

// rig is a guard on a disk of 100 MiB: Low below 16 MiB, Critical below 8,
// reserve 4, ballast 1.
type rig struct {
	t    *testing.T
	disk *quotafs.FS
	mem  *vfs.MemFS
	*Guard
	changes chan Level
}

const diskSize = 100 * mib

func newRig(t *testing.T, change func(*Options)) *rig {
	r := &rig{t: t, mem: vfs.NewMem(), changes: make(chan Level, 100)}
	if err := r.mem.MkdirAll("d", 0o700); err != nil {
		t.Fatal(err)
	}
	r.open(change)
	return r
}

func (r *rig) open(change func(*Options)) {
	var err error
	if r.disk, err = quotafs.New(r.mem, "d", diskSize); err != nil {
		r.t.Fatal(err)
	}
	o := Options{FS: r.disk, Dir: "d", Changed: func(l Level) { r.changes <- l }}
	if change != nil {
		change(&o)
	}
	r.Guard = New(o)
}

func (r *rig) write(name string, n int) error {
	f, err := r.FS().Create("d/"+name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	for left := n; left > 0 && err == nil; left -= mib / 4 {
		_, err = f.Write(make([]byte, min(left, mib/4)))
	}
	return errors.Join(err, f.Close())
}

func (r *rig) ballastOnDisk() int64 {
	info, err := r.mem.Stat("d/" + ballastName)
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return info.Size()
}

func (r *rig) wantLevel(want Level) {
	r.t.Helper()
	if got := r.Level(); got != want {
		r.t.Errorf("level %v with %d free; want %v", got, r.disk.Free(), want)
	}
}

func TestTheLevelFollowsTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.Start()
		defer r.Close()
		for _, step := range []struct {
			left int64
			want Level
		}{{50 * mib, OK}, {15 * mib, Low}, {17 * mib, Low}, {5 * mib, Critical}, {9 * mib, Critical}, {12 * mib, Low}, {30 * mib, OK}} {
			was := r.Level()
			r.disk.FillUp(step.left)
			time.Sleep(lookEvery + lookEvery/10)
			synctest.Wait()
			r.wantLevel(step.want)
			if step.want != was {
				if told := <-r.changes; told != step.want {
					t.Errorf("told of %v; want %v", told, step.want)
				}
			}
		}
	})
}

// What the node itself writes is noticed before the second is over.
func TestTheLevelFollowsOwnWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.Start()
		defer r.Close()
		r.disk.FillUp(20 * mib)
		time.Sleep(lookEvery + lookEvery/10)
		start := time.Now()
		if err := r.write("log", 6*mib); err != nil {
			t.Fatal(err)
		}
		r.wantLevel(Low)
		if err := r.write("log2", 8*mib); err != nil {
			t.Fatal(err)
		}
		r.wantLevel(Critical)
		if time.Since(start) > 0 {
			t.Error("time has passed; nothing is proved")
		}
	})
}

// Tables leave the reserve to logs, wait for room, and fail slowly.
func TestTablesMayNotUseTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.disk.FillUp(3 * mib)
		r.lookNow()
		if err := r.write("opening.sst", mib/2); err != nil {
			t.Errorf("while the databases open: %v", err)
		}
		r.Start()
		defer r.Close()
		r.disk.FillUp(6 * mib)
		time.Sleep(lookEvery + lookEvery/10)
		if err := r.write("big.sst", 5*mib); !vfs.IsNoSpaceError(err) {
			t.Errorf("a table that grows into the reserve: %v", err)
		}
		if free := r.disk.Free(); free < 2*mib {
			t.Errorf("it left %d bytes", free)
		}
		start := time.Now()
		if err := r.write("next.sst", 1); !vfs.IsNoSpaceError(err) {
			t.Errorf("a table in the reserve: %v", err)
		}
		if took := time.Since(start); took != tablePatience {
			t.Errorf("it was refused after %v; Pebble would spin", took)
		}
		if err := r.write("000007.log", 2*mib); err != nil {
			t.Errorf("a log in the reserve: %v", err)
		}
		done := make(chan error, 1)
		go func() { done <- r.write("patient.sst", 1) }()
		time.Sleep(tablePatience / 2)
		r.disk.FillUp(50 * mib)
		if err := <-done; err != nil {
			t.Errorf("a table that waited for room: %v", err)
		}
		if s := r.Status(); s.TablesRefused != 2 || s.FullHits != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestTheBallastSavesAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.Start()
		time.Sleep(lookEvery + lookEvery/10)
		if got := r.ballastOnDisk(); got != diskSize/100 || r.Status().Ballast != diskSize/100 {
			t.Fatalf("the ballast has %d bytes, status %+v", got, r.Status())
		}
		r.Close()
		r.open(nil) // a new life finds it
		r.Start()
		defer r.Close()
		if r.Status().Ballast != diskSize/100 {
			t.Error("a new life did not find the ballast")
		}
		r.disk.FillUp(1000)
		if err := r.write("000001.log", 100_000); err != nil {
			t.Fatalf("the write that met a full disk: %v", err)
		}
		if r.ballastOnDisk() != 0 || r.Status().FullHits != 1 {
			t.Errorf("the ballast has %d bytes, status %+v", r.ballastOnDisk(), r.Status())
		}
		r.wantLevel(Critical)
		// Others take what it gave: then the disk is full, and says so.
		r.disk.FillUp(0)
		if err := r.write("000002.log", 1); !vfs.IsNoSpaceError(err) {
			t.Errorf("a write to a disk that is full for good: %v", err)
		}
		// Too little room: the bytes that the ballast is owed do not count.
		r.disk.FillUp(17 * mib)
		time.Sleep(2*lookEvery + lookEvery/10)
		r.wantLevel(Low)
		r.disk.FillUp(40 * mib)
		start := time.Now()
		for r.ballastOnDisk() == 0 && time.Since(start) < time.Minute {
			if time.Since(start) > lookEvery {
				r.wantLevel(OK)
			}
			time.Sleep(lookEvery / 2)
		}
		if took := time.Since(start); took < ballastCalm || took > ballastCalm+3*lookEvery {
			t.Errorf("the ballast was made again after %v", took)
		}
		if err := r.write("000003.log", 39*mib); err != nil {
			t.Fatal(err)
		}
		if err := r.write("000004.log", mib/2); err != nil {
			t.Errorf("the second time the ballast did not help: %v", err)
		}
	})
}

// A disk that is full again two seconds after it had space finds the ballast made
// again, where the file system gives space that is not written.
func TestTheBallastIsThereForTheNextFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.disk.Preallocate(true)
		r.Start()
		defer r.Close()
		for i := range 5 {
			r.disk.FillUp(50 * mib)
			time.Sleep(23 * lookEvery / 10) // never at the instant of a look
			r.wantLevel(OK)
			before := r.Status()
			r.disk.FillUp(0)
			if err := r.write(fmt.Sprintf("%06d.log", i), 1000); err != nil {
				t.Fatalf("time %d: %v; before it %+v, after it %+v", i, err, before, r.Status())
			}
			r.wantLevel(Critical)
		}
		if n := r.Status().FullHits; n != 5 {
			t.Errorf("%d writes met a full disk; nothing is proved", n)
		}
	})
}

// Without a ballast, or when others took what it gave, a write waits for space.
func TestAWriteWaitsForSpaceWithoutABallast(t *testing.T) {
	const patience = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.BallastBytes, o.FullPatience = -1, patience })
		r.Start()
		defer r.Close()
		for _, c := range []struct {
			after time.Duration // space comes back
			want  bool
		}{{time.Second, true}, {patience - time.Second, true}, {2 * patience, false}, {patience / 2, true}} {
			r.disk.FillUp(0)
			start := time.Now()
			done := make(chan error, 1)
			go func() { done <- r.write("000001.log", 1000) }()
			time.AfterFunc(c.after, func() { r.disk.FillUp(20 * mib) })
			err := <-done
			took := time.Since(start)
			if (err == nil) != c.want || err != nil && !vfs.IsNoSpaceError(err) {
				t.Errorf("space after %v: %v", c.after, err)
			}
			if limit := min(c.after, patience) + 2*fullRecheck; took < min(c.after, patience) || took > limit {
				t.Errorf("space after %v: it took %v", c.after, took)
			}
			time.Sleep(3 * patience)
		}
	})
}

// Others take what the ballast gave before the write is repeated.
func TestAWriteWaitsWhenOthersTakeTheBallast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) {
			o.FS, o.FullPatience = &thief{FS: o.FS.(*quotafs.FS)}, 10*time.Second
		})
		r.Start()
		defer r.Close()
		time.Sleep(lookEvery + lookEvery/10)
		if r.ballastOnDisk() == 0 {
			t.Fatal("there is no ballast; nothing is proved")
		}
		r.disk.FillUp(0)
		time.AfterFunc(3*time.Second, func() { r.disk.FillUp(20 * mib) })
		start := time.Now()
		if err := r.write("000001.log", 1000); err != nil || time.Since(start) < 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// thief takes what a thrown off ballast gives, once it was seen to be free.
type thief struct {
	*quotafs.FS
	ready bool
}

func (d *thief) Remove(name string) error {
	err := d.FS.Remove(name)
	d.ready = d.ready || err == nil && d.PathBase(name) == ballastName
	return err
}

func (d *thief) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if d.ready {
		d.ready = false
		d.FillUp(0)
	}
	return d.FS.Create(name, category)
}

// The reserve may be used until half of what backs it, the ballast, is gone.
func TestAtTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.Start()
		defer r.Close()
		time.Sleep(lookEvery + lookEvery/10)
		left := func(bytes int64) bool {
			r.disk.FillUp(bytes)
			r.lookNow()
			return r.AtTheLast()
		}
		if left(0) {
			t.Error("while there is a ballast")
		}
		if err := r.write("000001.log", 1000); err != nil {
			t.Fatal(err)
		}
		if r.ballastOnDisk() != 0 {
			t.Fatal("the ballast is still there; nothing is proved")
		}
		if left(diskSize/200 + 1000) {
			t.Error("with more than half of it left")
		}
		if !left(diskSize/200 - 1000) {
			t.Error("not with less")
		}
	})
}

// What a large ballast gave back is not for clients' data.
func TestAThrownOffBallastIsOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.LowBytes, o.BallastBytes = 8*mib, 20*mib })
		r.Start()
		defer r.Close()
		time.Sleep(lookEvery + lookEvery/10)
		r.disk.FillUp(0)
		if err := r.write("000001.log", 1000); err != nil {
			t.Fatal(err)
		}
		if free := r.disk.Free(); free < 19*mib {
			t.Fatalf("%d bytes are free; nothing is proved", free)
		}
		r.wantLevel(Critical)
	})
}

// A disk with no room for a ballast goes without.
func TestNoBallastWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.disk.FillUp(20 * mib)
		r.Start()
		defer r.Close()
		time.Sleep(time.Minute)
		if got := r.ballastOnDisk(); got != 0 {
			t.Errorf("the ballast has %d bytes", got)
		}
		r.wantLevel(OK)
	})
}

// The ballast's size may change between lives.
func TestTheBallastIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.Start()
		time.Sleep(lookEvery + lookEvery/10)
		r.Close()
		for _, size := range []int64{3 * mib, -1} {
			r.open(func(o *Options) { o.BallastBytes = size })
			r.Start()
			time.Sleep(lookEvery + lookEvery/10)
			if got := r.ballastOnDisk(); got != max(size, 0) {
				t.Errorf("asked for %d, the ballast has %d bytes", size, got)
			}
			r.Close()
		}
	})
}

func TestADiskThatDoesNotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Options{FS: vfs.NewMem(), Dir: "d"})
		g.Start()
		time.Sleep(time.Minute)
		if g.Level() != OK || !g.Room(1<<60) || g.Status().Known {
			t.Errorf("status %+v", g.Status())
		}
		g.Close()
	})
}

func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.disk.FillUp(20 * mib)
		r.Start()
		defer r.Close()
		time.Sleep(lookEvery + lookEvery/10)
		for bytes, want := range map[uint64]bool{0: true, 12 * mib: true, 13 * mib: false, 1 << 62: false, 1<<64 - 1: false} {
			if r.Room(bytes) != want {
				t.Errorf("room for %d bytes: %t", bytes, !want)
			}
		}
	})
}

// Filled and emptied at random, the guard never lets a log meet a full disk while
// nobody else takes the ballast.
func TestLogsNeverMeetAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.Start()
		defer r.Close()
		time.Sleep(lookEvery + lookEvery/10)
		tables := 0
		for i := range 40 {
			r.disk.FillUp(int64(2+i%7*5) * mib)
			time.Sleep(lookEvery + lookEvery/10)
			for j := range 30 {
				name := fmt.Sprintf("%d-%d.sst", i, j)
				if err := r.write(name, mib); err == nil {
					tables++
				}
				if err := r.write(fmt.Sprintf("%d-%d.log", i, j), 1000); err != nil {
					t.Fatalf("round %d: a log met a full disk with %d bytes free: %v", i, r.disk.Free(), err)
				}
			}
		}
		if tables == 0 || r.Status().TablesRefused == 0 {
			t.Errorf("%d tables written, status %+v: nothing is proved", tables, r.Status())
		}
	})
}
