package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// fileFormat is the number of the context file's format.
const fileFormat = 1

// File is the context file.
type File struct {
	Format   int                `json:"format"`
	Current  string             `json:"current,omitempty"`
	Contexts map[string]Context `json:"contexts,omitempty"`
}

// Context is one cluster by name.
type Context struct {
	Endpoints []string `json:"endpoints"`
	// LocalDir is set when `kvctl local` keeps this context: the directory of
	// the local cluster that it leads to.
	LocalDir string `json:"local_dir,omitempty"`
	// Former is the context that was current before this one took its place.
	Former string `json:"former,omitempty"`
}

// Path is where the context file is: $RINGFORT_CONFIG, else config.json in
// ringfort in the user's configuration directory.
func Path(getenv func(string) string) (string, error) {
	if path := getenv(EnvConfig); path != "" {
		return filepath.Abs(path)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place for the context file (%w): set %s", err, EnvConfig)
	}
	return filepath.Join(dir, "ringfort", "config.json"), nil
}

// Load reads the context file at path. One that does not exist is empty.
func Load(path string) (*File, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{Format: fileFormat}, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := decode(raw)
	if err != nil {
		return nil, fmt.Errorf("context file %s: %w", path, err)
	}
	return file, nil
}

func decode(raw []byte) (*File, error) {
	var file File
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("damaged: %w", err)
	}
	if file.Format != fileFormat {
		return nil, fmt.Errorf("format %d is unknown to this kvctl, which knows %d", file.Format, fileFormat)
	}
	return &file, nil
}

// Update changes the context file at path under its lock. change may return
// false to leave it as it is.
func Update(path string, change func(*File) bool) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Waits; the holder only rewrites one small file.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	file, err := Load(path)
	if err != nil {
		return err
	}
	if !change(file) {
		return nil
	}
	return file.save(path)
}

func (f *File) save(path string) error {
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	// A leftover with another mode must not pass its mode on.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// LocalContext is the name of the context that `kvctl local` keeps.
const LocalContext = "local"

// SetLocal makes the local cluster in dir the current context.
func (f *File) SetLocal(dir string, endpoints []string) (changed bool) {
	old, had := f.Contexts[LocalContext]
	if had && old.LocalDir == dir && f.Current == LocalContext && slices.Equal(old.Endpoints, endpoints) {
		return false
	}
	former := old.Former
	if f.Current != LocalContext {
		former = f.Current
	}
	if f.Contexts == nil {
		f.Contexts = map[string]Context{}
	}
	f.Contexts[LocalContext] = Context{Endpoints: endpoints, LocalDir: dir, Former: former}
	f.Current = LocalContext
	return true
}

// MoveLocal corrects the endpoints of the local cluster in dir, if the context
// leads to it, and leaves the choice of the current context alone.
func (f *File) MoveLocal(dir string, endpoints []string) (changed bool) {
	old, had := f.Contexts[LocalContext]
	if !had || old.LocalDir != dir || slices.Equal(old.Endpoints, endpoints) {
		return false
	}
	old.Endpoints = endpoints
	f.Contexts[LocalContext] = old
	return true
}

// DropLocal removes the local context if it leads to dir, and makes the one
// current again that was before it.
func (f *File) DropLocal(dir string) (changed bool) {
	old, had := f.Contexts[LocalContext]
	if !had || old.LocalDir != dir {
		return false
	}
	delete(f.Contexts, LocalContext)
	if f.Current == LocalContext {
		f.Current = ""
		if _, still := f.Contexts[old.Former]; still {
			f.Current = old.Former
		}
	}
	return true
}

// LocalDir is the directory of the local cluster that the context file leads
// to; empty if there is none.
func (f *File) LocalDir() string { return f.Contexts[LocalContext].LocalDir }

func (f *File) names() string {
	if len(f.Contexts) == 0 {
		return "the context file has none"
	}
	return "there are: " + strings.Join(slices.Sorted(maps.Keys(f.Contexts)), ", ")
}
