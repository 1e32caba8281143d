package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

const (
	clusterA = "0123456789abcdef0123456789abcdef"
	clusterB = "fedcba9876543210fedcba9876543210"
)

func open(t *testing.T, fs vfs.FS) *Dir {
	t.Helper()
	d, err := Open(fs, "/var/ringfort/n1", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func reopen(t *testing.T, fs vfs.FS, d *Dir) *Dir {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, fs)
}

func TestIdentityLastsAndIsSetOnce(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	first := d.Identity()
	if !isHex(string(first.Node), nodeIDBytes) || first.Cluster != "" {
		t.Fatalf("new node is %+v", first)
	}
	if err := d.SetCluster(clusterA); err != nil {
		t.Fatal(err)
	}
	d = reopen(t, fs, d)
	if got := d.Identity(); got.Node != first.Node || got.Cluster != clusterA {
		t.Fatalf("got %+v after reopening", got)
	}
	if err := d.SetCluster(clusterA); err != nil {
		t.Fatalf("the same cluster again: %v", err)
	}
	if err := d.SetCluster(clusterB); !errors.Is(err, kverr.WrongCluster) {
		t.Fatalf("I-ONCE: another cluster: %v", err)
	}
}

func TestI_LOCKOneProcessAtATime(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.Default} {
		t.Run(name, func(t *testing.T) {
			dir := fs.PathJoin(t.TempDir(), "d")
			d, err := Open(fs, dir, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(fs, dir, rand.Reader); !errors.Is(err, ErrLocked) {
				t.Fatalf("second open: %v", err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d, err = Open(fs, dir, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// etcd, RethinkDB and others lost data because a wiped node came back under the
// id with which it had voted.
func TestI_WIPEDDirectoryIsANewNode(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	old := d.Identity().Node
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := fs.RemoveAll("/var/ringfort/n1"); err != nil {
		t.Fatal(err)
	}
	d = open(t, fs)
	if d.Identity().Node == old {
		t.Fatal("same id again")
	}
	// Half wiped: data is there, the id is not.
	if err := fs.MkdirAll(fs.PathJoin(d.StoreDir(), "log"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Close(), fs.Remove(d.file(identityFile))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(fs, d.path, rand.Reader); !errors.Is(err, kverr.Format) {
		t.Fatalf("data without an identity: %v", err)
	}
}

func TestNewerAndDamagedFilesAreRefused(t *testing.T) {
	id := Identity{Node: "00112233445566778899aabbccddeeff00112233", Cluster: clusterA}
	good := string(id.encode())
	for name, text := range map[string]string{
		"newer":    strings.Replace(good, "ringfort-node 1", "ringfort-node 2", 1),
		"flipped":  strings.Replace(good, "node 0011", "node 0111", 1),
		"cut":      good[:len(good)-3],
		"empty":    "",
		"other":    "hello\n",
		"trailing": good + "x",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeIdentity([]byte(text)); !errors.Is(err, kverr.Format) {
				t.Fatalf("got %v", err)
			}
			fs := vfs.NewMem()
			d := open(t, fs)
			if err := errors.Join(writeFile(fs, d.path, identityFile, []byte(text)), d.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(fs, d.path, rand.Reader); !errors.Is(err, kverr.Format) {
				t.Fatalf("opened: %v", err)
			}
		})
	}
}

func TestF1PlanIsStoredOnce(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	plan := &peerv1.Plan{Format: 1, ClusterId: clusterA, Shards: 3}
	if err := d.SavePlan(plan); err != nil {
		t.Fatal(err)
	}
	d = reopen(t, fs, d)
	if !proto.Equal(d.Plan(), plan) {
		t.Fatalf("got %v", d.Plan())
	}
	if err := d.SavePlan(proto.CloneOf(plan)); err != nil {
		t.Fatalf("the same plan again: %v", err)
	}
	other := proto.CloneOf(plan)
	other.Shards = 4
	if err := d.SavePlan(other); !errors.Is(err, kverr.Conflict) {
		t.Fatalf("another plan: %v", err)
	}
}

func TestDamagedMapIsOnlyAHint(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	if m, err := d.LoadMap(); m != nil || err != nil {
		t.Fatalf("none stored: %v, %v", m, err)
	}
	want := &kvv1.ShardMap{Epoch: 9, Nodes: []*kvv1.NodeInfo{{Id: "x", Address: "a:1"}}}
	if err := d.SaveMap(want); err != nil {
		t.Fatal(err)
	}
	if m, err := d.LoadMap(); err != nil || !proto.Equal(m, want) {
		t.Fatalf("got %v, %v", m, err)
	}
	if err := writeFile(fs, d.path, mapFile, []byte("RFMPgarbage")); err != nil {
		t.Fatal(err)
	}
	if m, err := d.LoadMap(); m != nil || err == nil {
		t.Fatalf("damaged: %v, %v", m, err)
	}
	reopen(t, fs, d)
}

// A crash at any moment leaves every file as it was before or as it was written,
// and what a call acknowledged is there.
func TestF1CrashLosesNothingAcknowledged(t *testing.T) {
	plan := &peerv1.Plan{Format: 1, ClusterId: clusterA}
	for seed := range uint64(200) {
		fs := vfs.NewCrashableMem()
		rng := mathrand.New(mathrand.NewPCG(seed, 7))
		crash := func() *vfs.MemFS {
			return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		}
		d := open(t, fs)
		clones := []*vfs.MemFS{crash()}
		if err := d.SavePlan(plan); err != nil {
			t.Fatal(err)
		}
		clones = append(clones, crash())
		if err := d.SetCluster(clusterA); err != nil {
			t.Fatal(err)
		}
		clones = append(clones, crash())
		for step, clone := range clones {
			again := open(t, clone)
			if again.Identity().Node != d.Identity().Node {
				t.Fatalf("seed %d step %d: another node id", seed, step)
			}
			if step >= 1 && !proto.Equal(again.Plan(), plan) {
				t.Fatalf("seed %d step %d: plan lost", seed, step)
			}
			if step >= 2 && again.Identity().Cluster != clusterA {
				t.Fatalf("seed %d step %d: cluster lost", seed, step)
			}
		}
	}
}

// crashAt takes a crash clone at the n-th file system operation from now.
type crashAt struct {
	vfs.FS
	mem  *vfs.MemFS
	left int
	rng  *mathrand.Rand
	disk *vfs.MemFS
}

func (c *crashAt) step() {
	if c.left--; c.left == 0 {
		c.disk = c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: c.rng})
	}
}

func (c *crashAt) Create(name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	c.step()
	f, err := c.FS.Create(name, cat)
	return &crashFile{f, c}, err
}
func (c *crashAt) Rename(a, b string) error {
	c.step()
	err := c.FS.Rename(a, b)
	c.step()
	return err
}
func (c *crashAt) OpenDir(name string) (vfs.File, error) {
	f, err := c.FS.OpenDir(name)
	return &crashFile{f, c}, err
}

type crashFile struct {
	vfs.File
	c *crashAt
}

func (f *crashFile) Write(p []byte) (int, error) { f.c.step(); return f.File.Write(p) }
func (f *crashFile) Sync() error                 { f.c.step(); return f.File.Sync() }

func TestCrashInsideAWriteLeavesOldOrNew(t *testing.T) {
	for seed := range uint64(20) {
		for at := 1; ; at++ {
			mem := vfs.NewCrashableMem()
			d := open(t, mem)
			id := d.Identity().Node
			fs := &crashAt{FS: mem, mem: mem, left: at, rng: mathrand.New(mathrand.NewPCG(seed, uint64(at)))}
			d.fs = fs
			if err := d.SetCluster(clusterA); err != nil {
				t.Fatal(err)
			}
			if fs.disk == nil {
				if at < 5 {
					t.Fatalf("only %d operations seen", at)
				}
				break
			}
			got := open(t, fs.disk).Identity()
			if got.Node != id || (got.Cluster != "" && got.Cluster != clusterA) {
				t.Fatalf("seed %d, crash at operation %d: %+v", seed, at, got)
			}
		}
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	f.Add((Identity{Node: "00112233445566778899aabbccddeeff00112233"}).encode())
	f.Add((Identity{Node: "00112233445566778899aabbccddeeff00112233", Cluster: clusterA}).encode())
	f.Add([]byte("ringfort-node 99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := decodeIdentity(b)
		if err == nil && string(id.encode()) != string(b) {
			t.Fatalf("accepted %q", b)
		}
	})
}

func FuzzUnseal(f *testing.F) {
	f.Add(seal(planMagic, []byte("payload")))
	f.Add([]byte(planMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := unseal(planMagic, b)
		if err == nil && fmt.Sprintf("%x", seal(planMagic, p)) != fmt.Sprintf("%x", b) {
			t.Fatalf("accepted %x", b)
		}
	})
}
