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
	// LastLocalDir is the directory of the local cluster that was brought up or
	// down last and keeps its data: `kvctl local up` brings that one back.
	LastLocalDir string `json:"last_local_dir,omitempty"`
}

// Context is one cluster by name.
type Context struct {
	Endpoints []string `json:"endpoints"`
	// ClusterID is the cluster that must answer there; empty: any.
	ClusterID string `json:"cluster_id,omitempty"`
	// LocalDir is set when `kvctl local` keeps this context: the directory of
	// the local cluster that it leads to.
	LocalDir string `json:"local_dir,omitempty"`
	// Former is the context that was current before this one took its place.
	Former string `json:"former,omitempty"`
	// Covered are the local clusters that led this context before the present
	// one took its place, the latest last.
	Covered []LocalCluster `json:"covered,omitempty"`
}

// LocalCluster is a local cluster that was not taken down.
type LocalCluster struct {
	Dir       string   `json:"dir"`
	ClusterID string   `json:"cluster_id,omitempty"`
	Endpoints []string `json:"endpoints"`
}

// maxCovered bounds the local clusters remembered besides the present one.
const maxCovered = 16

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

func (f *File) names() string {
	if len(f.Contexts) == 0 {
		return "the context file has none"
	}
	return "there are: " + strings.Join(slices.Sorted(maps.Keys(f.Contexts)), ", ")
}
