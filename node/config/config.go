package config

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/ringfort/ringfort/cluster/gossip"
	"github.com/ringfort/ringfort/raftstore/state"
)

// DefaultAdminListen is where a node serves HTTP unless it is told otherwise.
const DefaultAdminListen = "127.0.0.1:7481"

// Config is what a node is told. Parse fills in the defaults.
type Config struct {
	// Name is for people: it shows in status and logs. Default: the host's name.
	Name string
	// DataDir holds everything the node must not lose. Default: ringfort-data.
	DataDir string
	// Listen is the host:port for gRPC: clients, administrators, peers.
	Listen string
	// GossipListen is the host:port for gossip, TCP and UDP.
	GossipListen string
	// AdminListen is the host:port for HTTP: metrics, readiness, profiles. Empty:
	// none. DefaultAdminListen is a wish: where it is taken a free port is used.
	AdminListen string
	// Advertise and AdvertiseGossip are where others reach the two; empty means
	// where the node listens.
	Advertise       string
	AdvertiseGossip string
	// Join are gRPC addresses of any nodes of the cluster, or of nodes that will
	// form one with this node.
	Join []string
	// Zone is the failure domain: replicas of a shard are put into different
	// ones while there are enough.
	Zone string
	// Insecure allows listeners beyond this machine without TLS.
	Insecure bool
	// TLSCert and TLSKey are PEM files for the gRPC listener; TLSCA holds the
	// authorities that peers' certificates are checked against (default: the
	// system's).
	TLSCert, TLSKey, TLSCA string
	// LogLevel is the least level that is logged.
	LogLevel slog.Level
	// LogFormat is "text" or "json".
	LogFormat string
	// ElectionTimeout is how long a silent leader is waited for: 1 to 2 times
	// this. Shorter fails over faster and takes busy machines for dead ones.
	ElectionTimeout time.Duration
	// MaxKeyBytes and MaxValueBytes bound what clients may write.
	MaxKeyBytes, MaxValueBytes int
	// MaxClientMemory bounds what requests and unread answers of all clients may hold
	// in memory; half of it is for writes that shards queue.
	MaxClientMemory int64
	// SyncPacing lets a log sync wait for company: fewer syncs, later answers.
	SyncPacing time.Duration
	// EntriesInFlight is how many small entries a shard has in flight. What waits
	// meanwhile is merged, so more is slower unless the network is.
	EntriesInFlight int
	// MaxLogBytes bounds the Raft logs of all shards on disk; LogBytesPerShard is
	// what is kept of each for followers that were away.
	MaxLogBytes, LogBytesPerShard int64
	// FlushInterval bounds how long a change of state may be in the logs only.
	FlushInterval time.Duration
	// LowSpace is the free disk space below which this node takes no new values; 0
	// is a share of the disk, -1 never. BallastSize is that of the file that is
	// thrown off when the disk is full; 0 is a share of the disk, -1 none.
	LowSpace, BallastSize int64
	// SnapshotRate is the bytes per second sent of snapshots, 0 for no limit.
	SnapshotRate int64
	// StopTimeout bounds a graceful stop; then the node goes without grace.
	StopTimeout time.Duration
}

// TLS reports whether the gRPC listener uses TLS.
func (c *Config) TLS() bool { return c.TLSCert != "" && c.TLSKey != "" }

// faults says everything that is wrong with a complete configuration.
func (c *Config) faults() []string {
	var f faultList
	f.text("--name", c.Name, gossip.MaxName, true)
	f.text("--zone", c.Zone, gossip.MaxZone, false)
	if c.DataDir == "" {
		f.add("--data-dir must not be empty")
	}
	for _, a := range []struct {
		flag, value string
		required    bool
		anyPort     bool // 0 picks a free one
	}{
		{"--listen", c.Listen, true, true},
		{"--gossip-listen", c.GossipListen, true, true},
		{"--admin-listen", c.AdminListen, false, true},
		{"--advertise", c.Advertise, false, false},
		{"--advertise-gossip", c.AdvertiseGossip, false, false},
	} {
		if a.required || a.value != "" {
			f.address(a.flag, a.value, a.anyPort)
		}
	}
	for _, seed := range c.Join {
		f.address("--join", seed, false)
	}
	if everywhere(c.Listen) && c.Advertise == "" {
		f.add("--listen %s names no address that others could reach: give --advertise HOST:PORT", c.Listen)
	}
	if _, port, err := net.SplitHostPort(c.Listen); err == nil && port != "0" && c.Listen == c.GossipListen {
		f.add("--listen and --gossip-listen are both %s: gossip needs a port of its own", c.Listen)
	}
	c.exposureFaults(&f)
	if (c.TLSCert == "") != (c.TLSKey == "") {
		f.add("--tls-cert and --tls-key go together: one of them is missing")
	}
	if c.TLSCA != "" && !c.TLS() {
		f.add("--tls-ca is of no use without --tls-cert and --tls-key")
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		f.add("--log-format is %q; it must be text or json", c.LogFormat)
	}
	f.duration("--election-timeout", c.ElectionTimeout, 100*time.Millisecond, time.Minute)
	f.duration("--sync-pacing", c.SyncPacing, 0, 100*time.Millisecond)
	f.size("--entries-in-flight", c.EntriesInFlight, 16)
	f.bytes("--max-client-memory", c.MaxClientMemory, 32<<20, 1<<40)
	f.bytes("--max-log-bytes", c.MaxLogBytes, 8<<20, 1<<40)
	f.bytes("--log-bytes-per-shard", c.LogBytesPerShard, 64<<10, 1<<40)
	f.duration("--flush-interval", c.FlushInterval, 100*time.Millisecond, time.Hour)
	if c.LowSpace > 0 {
		f.bytes("--low-space", c.LowSpace, 1<<20, 1<<50)
	}
	if c.BallastSize > 0 {
		f.bytes("--ballast-size", c.BallastSize, 1<<20, 1<<40)
	}
	if c.SnapshotRate != 0 {
		f.bytes("--snapshot-rate", c.SnapshotRate, 64<<10, 1<<40)
	}
	f.duration("--stop-timeout", c.StopTimeout, time.Second, 10*time.Minute)
	f.size("--max-key-bytes", c.MaxKeyBytes, state.MaxKeyBytes)
	f.size("--max-value-bytes", c.MaxValueBytes, state.MaxValueBytes)
	return f
}

// exposureFaults: whatever can be reached from other machines is encrypted, or
// the operator has said that it need not be.
func (c *Config) exposureFaults(f *faultList) {
	if c.Insecure {
		return
	}
	if exposed(c.Listen) && !c.TLS() {
		f.add("--listen %s can be reached from other machines: give --tls-cert and --tls-key, or --insecure if the "+
			"network is trusted", c.Listen)
	}
	if exposed(c.AdminListen) {
		f.add("--admin-listen %s can be reached from other machines and asks nobody who they are: give --insecure if the "+
			"network is trusted", c.AdminListen)
	}
	if exposed(c.GossipListen) {
		f.add("--gossip-listen %s can be reached from other machines and gossip is not encrypted yet: give --insecure "+
			"if the network is trusted", c.GossipListen)
	}
}

// exposed reports whether a listener can be reached from other machines.
// Names other than localhost may resolve to anything.
func exposed(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "localhost" {
		return false // a malformed address is a fault of its own
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback()
}

// everywhere reports whether a listener binds all addresses, which is no place
// to send others to.
func everywhere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "" || (ip != nil && ip.IsUnspecified())
}

type faultList []string

func (f *faultList) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

func (f *faultList) text(flag, value string, limit int, required bool) {
	switch {
	case value == "" && required:
		f.add("%s must not be empty", flag)
	case len(value) > limit:
		f.add("%s has %d bytes; at most %d are possible", flag, len(value), limit)
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f || r == ',' }):
		f.add("%s %q has a space, comma or control character", flag, value)
	}
}

func (f *faultList) address(flag, value string, anyPort bool) {
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		f.add("%s %q is no host:port, such as 127.0.0.1:7401", flag, value)
		return
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || (n == 0 && !anyPort) {
		f.add("%s %q has a bad port: a number from 1 to 65535 is needed", flag, value)
	}
	if host == "" && !anyPort {
		f.add("%s %q names no host", flag, value)
	}
	if len(value) > gossip.MaxAddress {
		f.add("%s has %d bytes; at most %d are possible", flag, len(value), gossip.MaxAddress)
	}
}

func (f *faultList) duration(flag string, d, least, most time.Duration) {
	if d < least || d > most {
		f.add("%s is %s; from %s to %s is possible", flag, d, least, most)
	}
}

func (f *faultList) size(flag string, n, ceiling int) {
	if n < 1 || n > ceiling {
		f.add("%s is %d; from 1 to %d is possible", flag, n, ceiling)
	}
}

func (f *faultList) bytes(flag string, n, least, most int64) {
	if n < least || n > most {
		f.add("%s is %d bytes; from %d to %d is possible", flag, n, least, most)
	}
}
