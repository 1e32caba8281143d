package diskhealth

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	_ "github.com/ringfort/ringfort/internal/racebubble"
)

const limit = time.Second

// lazyFS takes its time for everything that is written.
type lazyFS struct {
	vfs.FS
	takes *time.Duration
}

type lazyFile struct {
	vfs.File
	takes *time.Duration
}

func (fs lazyFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	time.Sleep(*fs.takes)
	f, err := fs.FS.Create(name, c)
	return lazyFile{f, fs.takes}, err
}
func (fs lazyFS) Rename(from, to string) error {
	time.Sleep(*fs.takes)
	return fs.FS.Rename(from, to)
}
func (fs lazyFS) Remove(name string) error {
	time.Sleep(*fs.takes)
	return fs.FS.Remove(name)
}
func (f lazyFile) Write(p []byte) (int, error) {
	time.Sleep(*f.takes)
	return f.File.Write(p)
}
func (f lazyFile) Sync() error {
	time.Sleep(*f.takes)
	return f.File.Sync()
}

// Every kind of operation is told of once when it takes long, and not otherwise;
// looking makes no difference.
func TestSlowOperationsAreToldOnce(t *testing.T) {
	for name, looks := range map[string]bool{"looking": true, "not looking": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []Slow
				w := New(limit, func(s Slow) { told = append(told, s) })
				takes := time.Duration(0)
				fs := w.FS(lazyFS{vfs.NewMem(), &takes})
				stop := make(chan struct{})
				if looks {
					go func() {
						for {
							select {
							case <-stop:
								return
							case <-time.After(limit / 10):
								w.Look()
							}
						}
					}()
				}
				defer close(stop)
				for _, slow := range []bool{false, true} {
					takes, told = limit/2, nil
					if slow {
						takes = 3*limit + 1
					}
					f, err := fs.Create("a", vfs.WriteCategoryUnspecified)
					if err != nil {
						t.Fatal(err)
					}
					_, err = f.Write([]byte("x"))
					if err := errors.Join(err, f.Sync(), f.Close(), fs.Rename("a", "b"), fs.Remove("b")); err != nil {
						t.Fatal(err)
					}
					var ops []string
					for _, s := range told {
						ops = append(ops, s.Op+" "+s.Path)
						if s.For < limit || looks && s.For > limit+limit/10+1 || !looks && s.For < takes {
							t.Errorf("%+v", s)
						}
					}
					want := []string{"create a", "write a", "sync a", "rename b", "remove b"}
					if !slow {
						want = nil
					}
					if len(ops) != len(want) {
						t.Fatalf("slow %t: told of %v; want %v", slow, ops, want)
					}
					for i := range want {
						if ops[i] != want[i] {
							t.Errorf("told of %v; want %v", ops, want)
						}
					}
				}
				if len(w.mu.open) != 0 {
					t.Errorf("%d files are still watched", len(w.mu.open))
				}
			})
		})
	}
}

// What hangs is told of before it ends, and a file that could not be made is not
// watched.
func TestAHangIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []Slow
		w := New(limit, func(s Slow) { told = append(told, s) })
		takes := time.Hour
		fs := w.FS(lazyFS{vfs.NewMem(), &takes})
		done := make(chan error)
		go func() {
			_, err := fs.Create("no/such/directory", vfs.WriteCategoryUnspecified)
			done <- err
		}()
		time.Sleep(2 * limit)
		w.Look()
		w.Look()
		if len(told) != 1 || told[0].For != 2*limit {
			t.Errorf("told of %+v", told)
		}
		if err := <-done; !os.IsNotExist(err) {
			t.Error(err)
		}
		if len(told) != 1 || len(w.mu.open) != 0 {
			t.Errorf("told of %+v, %d watched", told, len(w.mu.open))
		}
	})
}
