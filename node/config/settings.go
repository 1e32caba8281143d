package config

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// setting is one flag and its environment variable.
type setting struct {
	name, value, help string // value is its placeholder in the help text
	def               string
	absent            string // where there is no default: what holds when it is not set
	isSwitch          bool
	set               func(*Config, string) error
}

// envPrefix is what every variable starts with.
const envPrefix = "RINGFORT_NODE_"

func (s setting) envName() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// settings, in the order in which help lists them and faults are reported.
var settings = []setting{
	{name: "name", value: "NAME", absent: "it must be given: this host has no name", help: "name for people, shown in status and logs (default: the host's name)",
		set: text(func(c *Config) *string { return &c.Name })},
	{name: "data-dir", value: "DIR", def: "ringfort-data", help: "everything the node must not lose; an emptied one is a new node",
		set: text(func(c *Config) *string { return &c.DataDir })},
	{name: "listen", value: "HOST:PORT", def: "127.0.0.1:7401", help: "gRPC listener for clients, administrators and peers",
		set: text(func(c *Config) *string { return &c.Listen })},
	{name: "gossip-listen", value: "HOST:PORT", def: "127.0.0.1:7501", help: "gossip listener, TCP and UDP",
		set: text(func(c *Config) *string { return &c.GossipListen })},
	{name: "admin-listen", value: "HOST:PORT", def: DefaultAdminListen,
		help: "HTTP listener for metrics, readiness and profiles, or off; where the default is taken, a free port",
		set:  setAdminListen},
	{name: "advertise", value: "HOST:PORT", absent: "not set: the same as listen", help: "where others reach --listen (default: the same)",
		set: text(func(c *Config) *string { return &c.Advertise })},
	{name: "advertise-gossip", value: "HOST:PORT", absent: "not set: the same as gossip-listen", help: "where others reach --gossip-listen (default: the same)",
		set: text(func(c *Config) *string { return &c.AdvertiseGossip })},
	{name: "join", value: "HOST:PORT,…", absent: "not set: nobody", help: "gRPC addresses of any nodes of the cluster, or of those it will be formed with",
		set: setJoin},
	{name: "zone", value: "ZONE", absent: "not set: none", help: "failure domain; a shard's replicas are put into different ones",
		set: text(func(c *Config) *string { return &c.Zone })},
	{name: "insecure", isSwitch: true, absent: "not set: false", help: "allow listeners beyond this machine without TLS",
		set: setInsecure},
	{name: "tls-cert", value: "FILE", absent: "not set: no TLS", help: "certificate (PEM) of the gRPC listener",
		set: text(func(c *Config) *string { return &c.TLSCert })},
	{name: "tls-key", value: "FILE", absent: "not set: no TLS", help: "its private key (PEM)",
		set: text(func(c *Config) *string { return &c.TLSKey })},
	{name: "tls-ca", value: "FILE", absent: "not set: the system's", help: "authorities (PEM) that peers' certificates are checked against (default: the system's)",
		set: text(func(c *Config) *string { return &c.TLSCA })},
	{name: "log-level", value: "LEVEL", def: "info", help: "debug, info, warn or error; kvctl node log-level changes it while the node runs",
		set: setLogLevel},
	{name: "log-format", value: "FORMAT", def: "text", help: "text or json, on standard error",
		set: text(func(c *Config) *string { return &c.LogFormat })},
	{name: "election-timeout", value: "DURATION", def: "500ms", help: "how long a silent leader is waited for, 1 to 2 times this",
		set: duration(func(c *Config) *time.Duration { return &c.ElectionTimeout })},
	{name: "max-key-bytes", value: "N", def: "4096", help: "longest key, at most 4096",
		set: number(func(c *Config) *int { return &c.MaxKeyBytes })},
	{name: "max-value-bytes", value: "N", def: "1048576", help: "longest value, at most 8388608",
		set: number(func(c *Config) *int { return &c.MaxValueBytes })},
	{name: "max-client-memory", value: "SIZE", def: "512MiB",
		help: "what requests and unread answers of all clients may hold in memory, half of it writes in shards' queues; at least 32MiB",
		set:  size(func(c *Config) *int64 { return &c.MaxClientMemory })},
	{name: "sync-pacing", value: "DURATION", def: "0s", help: "let a log sync wait this long for company from other shards",
		set: duration(func(c *Config) *time.Duration { return &c.SyncPacing })},
	{name: "entries-in-flight", value: "N", def: "1", help: "small entries that a shard has in flight, at most 16",
		set: number(func(c *Config) *int { return &c.EntriesInFlight })},
	{name: "max-log-bytes", value: "SIZE", def: "256MiB", help: "what the Raft logs of all shards may take on this node's disk",
		set: size(func(c *Config) *int64 { return &c.MaxLogBytes })},
	{name: "log-bytes-per-shard", value: "SIZE", def: "16MiB",
		help: "log kept per shard for followers that were away; beyond it they get a snapshot",
		set:  size(func(c *Config) *int64 { return &c.LogBytesPerShard })},
	{name: "flush-interval", value: "DURATION", def: "30s", help: "longest time between two flushes of the state while it changes",
		set: duration(func(c *Config) *time.Duration { return &c.FlushInterval })},
	{name: "snapshot-rate", value: "SIZE", def: "64MiB", help: "bytes per second that this node sends of snapshots; 0 is no limit",
		set: size(func(c *Config) *int64 { return &c.SnapshotRate })},
	{name: "low-space", value: "SIZE", def: "auto",
		help: "free disk space below which puts are refused, deletes below half of it; auto is 5 % of the disk, 16MiB to 4GiB; off is never",
		set:  sizeOrWord(func(c *Config) *int64 { return &c.LowSpace })},
	{name: "ballast-size", value: "SIZE", def: "auto",
		help: "file that is thrown off when the disk is full, to live on; auto is 1 % of the disk, at most 256MiB; off is none",
		set:  sizeOrWord(func(c *Config) *int64 { return &c.BallastSize })},
	{name: "stop-timeout", value: "DURATION", def: "10s", help: "bound on a graceful stop",
		set: duration(func(c *Config) *time.Duration { return &c.StopTimeout })},
}

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		*field(c) = v
		return nil
	}
}

func duration(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("%q is no duration, such as 500ms or 2s", v)
		}
		*field(c) = d
		return nil
	}
}

func number(field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("%q is no whole number", v)
		}
		*field(c) = n
		return nil
	}
}

// sizeUnits are what a size may end in.
var sizeUnits = []struct {
	name   string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1},
}

func size(field func(*Config) *int64) func(*Config, string) error {
	return func(c *Config, v string) error {
		for _, unit := range sizeUnits {
			digits, ok := strings.CutSuffix(v, unit.name)
			if !ok {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err != nil || n < 0 || n > math.MaxInt64/unit.factor {
				break
			}
			*field(c) = n * unit.factor
			return nil
		}
		return fmt.Errorf("%q is no size, such as 64MiB or 1GiB", v)
	}
}

// sizeOrWord takes a size, auto (0) or off (-1).
func sizeOrWord(field func(*Config) *int64) func(*Config, string) error {
	return func(c *Config, v string) error {
		switch v {
		case "auto":
			*field(c) = 0
			return nil
		case "off":
			*field(c) = -1
			return nil
		}
		if err := size(field)(c, v); err != nil || *field(c) == 0 {
			return fmt.Errorf("%q is no size, such as 64MiB or 1GiB, nor auto or off", v)
		}
		return nil
	}
}

func setJoin(c *Config, v string) error {
	c.Join = nil
	for seed := range strings.SplitSeq(v, ",") {
		if seed = strings.TrimSpace(seed); seed != "" {
			c.Join = append(c.Join, seed)
		}
	}
	return nil
}

func setAdminListen(c *Config, v string) error {
	if v == "off" {
		v = ""
	}
	c.AdminListen = v
	return nil
}

func setInsecure(c *Config, v string) error {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", v)
	}
	c.Insecure = b
	return nil
}

// ParseLogLevel takes the names that --log-level takes, in any case.
func ParseLogLevel(name string) (level slog.Level, err error) {
	switch strings.ToLower(name) {
	case "debug", "info", "warn", "error":
		err = level.UnmarshalText([]byte(name))
		return level, err
	}
	return slog.LevelInfo, fmt.Errorf("%q is not debug, info, warn or error", name)
}

func setLogLevel(c *Config, v string) error {
	level, err := ParseLogLevel(v)
	c.LogLevel = level
	return err
}

// WriteHelp prints the flags with their defaults.
func WriteHelp(w io.Writer) error {
	var b strings.Builder
	b.WriteString("kvnode runs one node of a Ringfort cluster.\n\n" +
		"  kvnode [flags]                run a node\n" +
		"  kvnode config check [flags]   check flags, variables and file; start nothing\n" +
		"  kvnode config show [flags]    print every setting and where its value came from\n\n" +
		"Every flag can also be given as an environment variable (--data-dir as\n" +
		"RINGFORT_NODE_DATA_DIR) or in the file that --config names (data-dir: DIR). Flags\n" +
		"come before variables, variables before the file, the file before defaults.\n\n" +
		"  --config FILE\n        YAML file of settings, named like the flags; unknown ones are refused\n")
	for _, s := range settings {
		head := "--" + s.name
		if s.value != "" {
			head += " " + s.value
		}
		fmt.Fprintf(&b, "  %s\n        %s", head, s.help)
		if s.def != "" {
			fmt.Fprintf(&b, " (default %s)", s.def)
		}
		b.WriteString("\n")
	}
	b.WriteString("  --version\n        print the version\n\n" +
		"Exit codes: 0 stopped as told, 1 other trouble, 2 bad flags, 3 data directory in use,\n" +
		"4 address in use, 5 wrong cluster or format, 6 disk failure,\n" +
		"7 disk hangs.\n")
	_, err := io.WriteString(w, b.String())
	return err
}
