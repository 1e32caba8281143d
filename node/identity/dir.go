package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

// ErrLocked is wrapped by Open when another process holds the directory.
var ErrLocked = errors.New("data directory is in use by another process")

const (
	identityFile = "identity"
	planFile     = "plan"
	mapFile      = "map"
	lockFile     = "lock"
	storeDir     = "store"

	planMagic = "RFPL"
	mapMagic  = "RFMP"
)

// Dir is a node's data directory, held by this process. Methods that read are
// safe for concurrent use; each file needs one writer at a time.
type Dir struct {
	fs   vfs.FS
	path string
	lock io.Closer

	mu struct {
		sync.Mutex
		id   Identity
		plan *peerv1.Plan // never changed once stored; shared
	}
}

// Open takes the directory, creating it and drawing an id when it is new. Errors
// wrap ErrLocked, are of kind Format (unknown or damaged), or come from the disk.
func Open(fsys vfs.FS, path string, random io.Reader) (*Dir, error) {
	if err := makeDir(fsys, path); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	lock, err := takeLock(fsys, fsys.PathJoin(path, lockFile))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	d := &Dir{fs: fsys, path: path, lock: lock}
	if err := d.load(random); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory %s: %w", path, err), lock.Close())
	}
	return d, nil
}

// takeLock tells "held by somebody" from "cannot be created".
func takeLock(fsys vfs.FS, path string) (io.Closer, error) {
	lock, err := fsys.Lock(path)
	var notCreated *fs.PathError
	if err == nil || errors.As(err, &notCreated) {
		return lock, err
	}
	if errors.Is(err, syscall.EAGAIN) {
		return nil, fmt.Errorf("%w: stop it first, or use another --data-dir", ErrLocked)
	}
	return nil, fmt.Errorf("%w (%v): stop it first, or use another --data-dir", ErrLocked, err)
}

func (d *Dir) load(random io.Reader) error {
	b, err := readFile(d.fs, d.file(identityFile))
	if err != nil {
		return err
	}
	if b == nil {
		return d.create(random)
	}
	if d.mu.id, err = decodeIdentity(b); err != nil {
		return fmt.Errorf("%s: %w", identityFile, err)
	}
	plan := new(peerv1.Plan)
	found, err := d.loadProto(planFile, planMagic, plan)
	if err != nil {
		return fmt.Errorf("%s: %w", planFile, err)
	}
	if found {
		d.mu.plan = plan
	}
	return nil
}

// create makes a new node. I-WIPED: never beside a database whose id is lost.
func (d *Dir) create(random io.Reader) error {
	left, err := d.fs.List(d.StoreDir())
	if err != nil && !isNotExist(err) {
		return err
	}
	if len(left) > 0 {
		return kverr.New(kverr.Format, "holds data but no %s file: put the file back, or empty the directory "+
			"to start as a new node", identityFile)
	}
	node, err := NewNodeID(random)
	if err != nil {
		return err
	}
	d.mu.id = Identity{Node: node}
	return writeFile(d.fs, d.path, identityFile, d.mu.id.encode())
}

// Identity returns who the node is.
func (d *Dir) Identity() Identity {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.id
}

// Plan returns the accepted plan, or nil. It must not be changed.
func (d *Dir) Plan() *peerv1.Plan {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.plan
}

// SetCluster makes the node a member for good. Another cluster than before is
// refused with kind WrongCluster.
func (d *Dir) SetCluster(cluster string) error {
	id := d.Identity()
	switch {
	case id.Cluster == cluster:
		return nil
	case id.Cluster != "":
		return kverr.New(kverr.WrongCluster, "this node belongs to cluster %s and cannot become a member of %s", id.Cluster, cluster)
	case !isHex(cluster, clusterIDBytes):
		return kverr.New(kverr.Invalid, "%q is no cluster id", cluster)
	}
	id.Cluster = cluster
	if err := writeFile(d.fs, d.path, identityFile, id.encode()); err != nil {
		return fmt.Errorf("store the cluster id: %w", err)
	}
	d.mu.Lock()
	d.mu.id = id
	d.mu.Unlock()
	return nil
}

// SavePlan stores the plan durably (F1). Any other plan than the one stored is
// refused with kind Conflict.
func (d *Dir) SavePlan(plan *peerv1.Plan) error {
	if held := d.Plan(); held != nil {
		if proto.Equal(held, plan) {
			return nil
		}
		return kverr.New(kverr.Conflict, "this node already accepted the plan of cluster %s", held.GetClusterId())
	}
	if err := d.saveProto(planFile, planMagic, plan); err != nil {
		return fmt.Errorf("store the plan: %w", err)
	}
	d.mu.Lock()
	d.mu.plan = proto.CloneOf(plan)
	d.mu.Unlock()
	return nil
}

// StoreDir is where the databases live.
func (d *Dir) StoreDir() string { return d.file(storeDir) }

// Close gives the directory back.
func (d *Dir) Close() error { return d.lock.Close() }

func (d *Dir) file(name string) string { return d.fs.PathJoin(d.path, name) }

func (d *Dir) saveProto(name, magic string, m proto.Message) error {
	payload, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return writeFile(d.fs, d.path, name, seal(magic, payload))
}

func (d *Dir) loadProto(name, magic string, m proto.Message) (found bool, err error) {
	b, err := readFile(d.fs, d.file(name))
	if b == nil || err != nil {
		return false, err
	}
	payload, err := unseal(magic, b)
	if err != nil {
		return false, err
	}
	if err := proto.Unmarshal(payload, m); err != nil {
		return false, kverr.New(kverr.Format, "a %s file is malformed: %w", magic, err)
	}
	return true, nil
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
