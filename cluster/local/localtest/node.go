package localtest

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// Env is the variable that makes a test binary a node. Its value lists what the
// node does wrong, words separated by commas:
//
//	die         log three lines and exit with code 1
//	sick2       the same, for n2 only
//	mute2       n2 runs and answers nobody
//	snatched    exit with code 4 once, as if the port was taken meanwhile
//	leaderless  have no leader for shard 2
//	low1        n1 is low on disk space
//	quarantined n1's replica of shard 3 does not run
//	stubborn    ignore SIGTERM
//	outsider    n2 is seen by all and never becomes a member
//	stranger    n2 belongs to another cluster
const Env = "RINGFORT_TEST_NODE"

// Exit codes of kvnode that the stand-in knows.
const (
	exitOther         = 1
	exitUsage         = 2
	exitLocked        = 3
	exitAddressInUse  = 4
	formedFile        = "formed"
	clusterID         = "cluster-x"
	minKeepaliveEvery = time.Second
)

// node is one stand-in.
type node struct {
	adminv1.UnimplementedAdminServer
	kvv1.UnimplementedKVServer
	name, data, listen, gossip, admin, version string

	seeds      []string // addresses of the others, in the order of their names
	leaderless bool
	modes      []string
	started    time.Time

	mu struct {
		sync.Mutex
		values map[string][]byte

		verifies map[string]chan struct{} // by id
		last     uint64                   // version of the latest write
		ops      uint64
		frames   uint64
		level    string // of the log; empty is info
	}
}

// LogLevel implements adminv1.AdminServer, whatever the level is called.
func (n *node) LogLevel(_ context.Context, req *adminv1.LogLevelRequest) (*adminv1.LogLevelResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	was := cmp.Or(n.mu.level, "info")
	n.mu.level = cmp.Or(req.GetLevel(), was)
	return &adminv1.LogLevelResponse{Level: n.mu.level, Was: was}, nil
}

// Main runs a node with the flags of the command line and returns its exit
// code.
func Main() int {
	modes := strings.Split(os.Getenv(Env), ",")
	n := &node{leaderless: slices.Contains(modes, "leaderless"), modes: modes, started: time.Now()}
	n.mu.values = map[string][]byte{}
	n.mu.verifies = map[string]chan struct{}{}
	args, check := os.Args[1:], false
	if len(args) >= 2 && args[0] == "config" && args[1] == "check" {
		args, check = args[2:], true
	}
	if err := n.parse(args); err != nil {
		return exitUsage
	}
	if check {
		return 0
	}
	if slices.Contains(modes, "die") || slices.Contains(modes, "sick2") && n.name == "n2" {
		fmt.Println("first line\nsecond line\nthe disk is on fire")
		return exitOther
	}
	if slices.Contains(modes, "mute2") && n.name == "n2" {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		return 0
	}
	if slices.Contains(modes, "snatched") && os.Mkdir(n.data+".snatched", 0o755) == nil {
		return exitAddressInUse
	}
	if err := os.MkdirAll(n.data, 0o755); err != nil {
		fmt.Println(err)
		return exitOther
	}
	lock, err := os.Create(filepath.Join(n.data, "LOCK"))
	if err != nil || unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		fmt.Println("the data directory is locked")
		return exitLocked
	}
	listener, err := net.Listen("tcp", n.listen)
	if err != nil {
		return exitAddressInUse
	}
	admin, err := net.Listen("tcp", n.admin) // it answers nothing, but has an address
	if err != nil {
		return exitAddressInUse
	}
	defer admin.Close()
	n.admin = admin.Addr().String()
	n.serve(listener, slices.Contains(modes, "stubborn"))
	return 0
}

func (n *node) parse(args []string) error {
	flags := flag.NewFlagSet("kvnode", flag.ContinueOnError)
	flags.StringVar(&n.name, "name", "", "")
	flags.StringVar(&n.data, "data-dir", "", "")
	flags.StringVar(&n.listen, "listen", "", "")
	flags.StringVar(&n.gossip, "gossip-listen", "", "")
	flags.StringVar(&n.admin, "admin-listen", "", "")
	flags.StringVar(&n.version, "fake-version", "fake", "what to answer for a version")
	join := flags.String("join", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *join != "" {
		n.seeds = strings.Split(*join, ",")
	}
	return nil
}

// serve returns when SIGTERM has come, unless it is to be ignored.
func (n *node) serve(listener net.Listener, stubborn bool) {
	server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(
		keepalive.EnforcementPolicy{MinTime: minKeepaliveEvery, PermitWithoutStream: true}))
	adminv1.RegisterAdminServer(server, n)
	kvv1.RegisterKVServer(server, n)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // ends with Stop
	fmt.Println(n.name, "is up")
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	for range term {
		if !stubborn {
			break
		}
	}
	server.Stop()
	serving.Wait()
	fmt.Println(n.name, "stopped")
}

// addresses are those of all nodes by name, n1 first.
func (n *node) addresses() map[string]string {
	all := map[string]string{n.name: n.listen}
	next := 1
	for _, seed := range n.seeds {
		if fmt.Sprint("n", next) == n.name {
			next++
		}
		all[fmt.Sprint("n", next)] = seed
		next++
	}
	return all
}

// idOf gives a name an id of the form that real nodes have.
func idOf(name string) shardmap.NodeID {
	return shardmap.NodeID(fmt.Sprintf("%040x", name))
}

func (n *node) formed() string {
	return filepath.Join(filepath.Dir(filepath.Dir(n.data)), formedFile)
}

func (n *node) info() *kvv1.NodeInfo {
	return &kvv1.NodeInfo{Id: string(idOf(n.name)), Name: n.name, Address: n.listen, GossipAddress: n.gossip}
}
