package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func ptr[T any](v T) *T { return &v }

func testFile() *File {
	return &File{Current: "prod", Contexts: map[string]Context{
		"prod": {Endpoints: []string{"prod:1", "prod:2"}},
		"lab":  {Endpoints: []string{"lab:1"}},
	}}
}

func TestEndpointPrecedence(t *testing.T) {
	for name, c := range map[string]struct {
		flags Flags
		env   func(string) string
		file  *File
		want  string
		from  string
	}{
		"default":                {Flags{}, env(), &File{}, DefaultEndpoint, "the default"},
		"current context":        {Flags{}, env(), testFile(), "prod:1 prod:2", `context "prod"`},
		"context by environment": {Flags{}, env(EnvContext, "lab"), testFile(), "lab:1", `context "lab"`},
		"environment":            {Flags{}, env(EnvEndpoints, "e:1,e:2"), testFile(), "e:1 e:2", EnvEndpoints},
		"environment before its context": {
			Flags{}, env(EnvEndpoints, "e:1", EnvContext, "lab"), testFile(), "e:1", EnvEndpoints,
		},
		"context flag before environment": {Flags{Context: "lab"}, env(EnvEndpoints, "e:1"), testFile(), "lab:1", `context "lab"`},
		"flag before all": {
			Flags{Endpoints: []string{"f:1"}, Context: "lab"}, env(EnvEndpoints, "e:1"), testFile(), "f:1", "--endpoints",
		},
		"flag, missing context file entry": {Flags{Endpoints: []string{"f:1"}}, env(), &File{Current: "gone"}, "f:1", "--endpoints"},
		"as a target":                      {Flags{Endpoints: []string{"kv://a:1, b:2", "a:1"}}, env(), &File{}, "a:1 b:2", "--endpoints"},
		"IPv6":                             {Flags{Endpoints: []string{"[::1]:7"}}, env(), &File{}, "[::1]:7", "--endpoints"},
	} {
		got, err := ResolveTarget(c.flags, c.env, c.file)
		if err != nil || strings.Join(got.Endpoints, " ") != c.want || got.From != c.from {
			t.Errorf("%s: %v from %s, %v", name, got.Endpoints, got.From, err)
		}
	}
}

func TestOtherPrecedence(t *testing.T) {
	both := env(EnvTimeout, "3s", EnvOutput, "json")
	for name, c := range map[string]struct {
		flags   Flags
		env     func(string) string
		timeout time.Duration
		given   bool
		output  string
	}{
		"default":     {Flags{}, env(), DefaultTimeout, false, "table"},
		"environment": {Flags{}, both, 3 * time.Second, true, "json"},
		"flag":        {Flags{Timeout: ptr(time.Second), Output: ptr("raw")}, both, time.Second, true, "raw"},
	} {
		got, err := Resolve(c.flags, c.env)
		if err != nil || got.Timeout != c.timeout || got.TimeoutGiven != c.given || got.Output != c.output {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestResolveNamesAllFaults(t *testing.T) {
	flags := Flags{Endpoints: []string{"nohost", ":1", "h:0", "h:x"}, Output: ptr("xml"), Timeout: ptr(time.Duration(0))}
	_, err := Resolve(flags, env())
	_, targetErr := ResolveTarget(flags, env(), &File{})
	err = errors.Join(err, targetErr)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"nohost"`, `":1"`, `"h:0"`, `"h:x"`, `"xml"`, "not positive"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in: %v", want, err)
		}
	}
	for name, c := range map[string]struct {
		env  func(string) string
		file *File
		want string
	}{
		"unknown context": {env(EnvContext, "x"), testFile(), `no context "x" (there are: lab, prod)`},
		"dangling":        {env(), &File{Current: "x"}, `no context "x" (the context file has none)`},
		"bad duration":    {env(EnvTimeout, "5"), &File{}, "RINGFORT_TIMEOUT"},
		"bad output":      {env(EnvOutput, "5"), &File{}, "RINGFORT_OUTPUT"},
	} {
		_, err := Resolve(Flags{}, c.env)
		if err == nil {
			_, err = ResolveTarget(Flags{}, c.env, c.file)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPath(t *testing.T) {
	if path, err := Path(env(EnvConfig, "/x/y.json")); err != nil || path != "/x/y.json" {
		t.Errorf("%s, %v", path, err)
	}
	t.Setenv("XDG_CONFIG_HOME", "/xdg")
	if path, err := Path(env()); err != nil || path != "/xdg/ringfort/config.json" {
		t.Errorf("%s, %v", path, err)
	}
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "")
	if path, err := Path(env()); err == nil || !strings.Contains(err.Error(), EnvConfig) {
		t.Errorf("%s, %v", path, err)
	}
}

func everywhere(string) bool { return true }

func TestLocalContextComesAndGoes(t *testing.T) {
	f := testFile()
	if !f.SetLocal("/d", "", []string{"l:1"}) || f.Current != LocalContext || f.LocalDir() != "/d" {
		t.Fatalf("set: %+v", f)
	}
	if f.SetLocal("/d", "", []string{"l:1"}) {
		t.Error("setting it again changed something")
	}
	if !f.SetLocal("/d", "", []string{"l:2"}) || f.Contexts[LocalContext].Former != "prod" {
		t.Errorf("moved: %+v", f)
	}
	// A second cluster takes the place, and still knows who was first.
	if !f.SetLocal("/e", "", []string{"l:3"}) || f.Contexts[LocalContext].Former != "prod" {
		t.Errorf("second cluster: %+v", f)
	}
	if f.DropLocal("/x", false, everywhere) || f.MoveLocal("/x", []string{"l:9"}) {
		t.Error("the context of another cluster was changed")
	}
	f.Current = "lab" // the user's own choice meanwhile
	if !f.MoveLocal("/e", []string{"l:4"}) || f.Current != "lab" || f.Contexts[LocalContext].Endpoints[0] != "l:4" {
		t.Errorf("moved: %+v", f)
	}
	if !f.DropLocal("/d", false, everywhere) || !f.DropLocal("/e", false, everywhere) || f.Current != "lab" || f.LocalDir() != "" {
		t.Errorf("dropped: %+v", f)
	}
	f.SetLocal("/e", "", []string{"l:3"})
	if !f.DropLocal("/e", false, everywhere) || f.Current != "lab" || !reflect.DeepEqual(f.Contexts, testFile().Contexts) {
		t.Errorf("dropped while current: %+v", f)
	}
	delete(f.Contexts, "lab")
	f.SetLocal("/e", "", nil)
	if f.DropLocal("/e", false, everywhere); f.Current != "" {
		t.Errorf("a context that is gone became current: %+v", f)
	}
}

// The context "local" goes back to the cluster that had it before, if that one
// is still there.
func TestLocalContextGoesBack(t *testing.T) {
	f := testFile()
	up := func(dirs ...string) {
		for _, dir := range dirs {
			f.SetLocal(dir, "id of "+dir, []string{dir + ":1"})
		}
	}
	there := func(dirs ...string) func(string) bool {
		return func(dir string) bool { return slices.Contains(dirs, dir) }
	}
	up("/a", "/b", "/a", "/c")
	if f.DropLocal("/c", true, there("/a", "/b", "/c")); f.LocalDir() != "/a" || f.Current != LocalContext ||
		f.Contexts[LocalContext].Endpoints[0] != "/a:1" || f.Contexts[LocalContext].ClusterID != "id of /a" || f.LastLocalDir != "/c" {
		t.Errorf("back to the one before: %+v", f)
	}
	if !f.MoveLocal("/b", []string{"/b:2"}) || f.MoveLocal("/b", []string{"/b:2"}) {
		t.Error("a covered cluster was not moved, or twice")
	}
	if f.DropLocal("/a", false, there("/b")); f.LocalDir() != "/b" || f.Contexts[LocalContext].Endpoints[0] != "/b:2" {
		t.Errorf("back to the first: %+v", f)
	}
	up("/c", "/d")
	if f.DropLocal("/d", false, there("/b")); f.LocalDir() != "/b" || f.LastLocalDir != "" {
		t.Errorf("one that is gone was not passed over: %+v", f)
	}
	f.Current = "prod"
	up("/c")
	if f.DropLocal("/c", true, there()); f.Current != "prod" || f.LocalDir() != "" || f.LastLocalDir != "/c" {
		t.Errorf("none is left: %+v", f)
	}
	for i := range 3 * maxCovered {
		up(fmt.Sprint("/", i))
	}
	if n := len(f.Contexts[LocalContext].Covered); n != maxCovered {
		t.Errorf("%d are remembered", n)
	}
}

func TestFileOnDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "config.json")
	if f, err := Load(path); err != nil || f.Current != "" {
		t.Fatalf("missing file: %+v, %v", f, err)
	}
	var wait sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		wait.Go(func() {
			err := Update(path, func(f *File) bool {
				if f.Contexts == nil {
					f.Contexts = map[string]Context{}
				}
				f.Contexts[name] = Context{Endpoints: []string{name + ":1"}}
				return true
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	f, err := Load(path)
	if err != nil || len(f.Contexts) != 4 {
		t.Fatalf("four updates at once left %+v, %v", f, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	for _, text := range []string{"{", `{"format":9}`, ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
		if err := Update(path, func(*File) bool { return true }); err == nil {
			t.Errorf("%q was overwritten", text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format":1,"current":"a","contexts":{"a":{"endpoints":["h:1"]}}}`))
	f.Add([]byte(`{"format":1,"contexts":{"local":{}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := decode(raw)
		if err != nil {
			return
		}
		file.SetLocal("/d", "", []string{"h:1"})
		target, err := ResolveTarget(Flags{}, env(), file)
		if err != nil || len(target.Endpoints) != 1 {
			t.Fatalf("after SetLocal: %+v, %v", target, err)
		}
		file.DropLocal("/d", true, everywhere)
	})
}
