package quotafs

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func write(t *testing.T, fs vfs.FS, name string, n int) (int, error) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Write(make([]byte, n))
}

func TestTheDiskHasAnEnd(t *testing.T) {
	base := vfs.NewMem()
	if err := base.MkdirAll("d", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := write(t, base, "d/old", 100); err != nil {
		t.Fatal(err)
	}
	fs, err := New(base, "d", 1000)
	if err != nil {
		t.Fatal(err)
	}
	want := func(free int64) {
		t.Helper()
		if got := fs.Free(); got != free {
			t.Errorf("%d bytes free; want %d", got, free)
		}
	}
	want(900)
	if _, err := write(t, fs, "d/a", 600); err != nil {
		t.Fatal(err)
	}
	want(300)
	if n, err := write(t, fs, "d/b", 500); n != 300 || !vfs.IsNoSpaceError(err) {
		t.Errorf("wrote %d, %v; want 300 and no space", n, err)
	}
	want(0)
	if _, err := write(t, fs, "d/c", 1); !vfs.IsNoSpaceError(err) {
		t.Errorf("a file on a full disk: %v", err)
	}
	if err := fs.Link("d/a", "d/a2"); err != nil {
		t.Fatal(err)
	}
	if err := fs.Remove("d/a"); err != nil {
		t.Fatal(err)
	}
	want(0)
	if err := fs.Rename("d/b", "d/a2"); err != nil {
		t.Fatal(err)
	}
	want(600)
	fs.FillUp(50)
	want(50)
	fs.Fill(0)
	if err := fs.RemoveAll("d"); err != nil {
		t.Fatal(err)
	}
	want(1000)
	if fs.Refused() != 2 {
		t.Errorf("%d refusals; want 2", fs.Refused())
	}
	usage, err := fs.GetDiskUsage("d")
	if err != nil || usage.TotalBytes != 1000 || usage.AvailBytes != 1000 {
		t.Errorf("usage %+v, %v", usage, err)
	}
}
