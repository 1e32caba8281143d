package config

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sources(env, files map[string]string) Sources {
	return Sources{
		Env: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
		ReadFile: func(path string) ([]byte, error) {
			content, ok := files[path]
			if !ok {
				return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
			}
			return []byte(content), nil
		},
		Hostname: "host1",
	}
}

func parse(env map[string]string, args ...string) (*Config, error) {
	return Parse(args, sources(env, nil))
}

func TestDefaults(t *testing.T) {
	c, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Name: "host1", DataDir: "ringfort-data", Listen: "127.0.0.1:7401", GossipListen: "127.0.0.1:7501",
		AdminListen: "127.0.0.1:7481",
		LogLevel:    slog.LevelInfo, LogFormat: "text", ElectionTimeout: 500 * time.Millisecond,
		MaxKeyBytes: 4096, MaxValueBytes: 1 << 20, MaxClientMemory: 512 << 20, StopTimeout: 10 * time.Second, EntriesInFlight: 1,
		MaxLogBytes: 256 << 20, LogBytesPerShard: 16 << 20, FlushInterval: 30 * time.Second, SnapshotRate: 64 << 20,
	}
	if d := cmp.Diff(want, c); d != "" {
		t.Fatal(d)
	}
}

func TestFlagBeforeVariableBeforeDefault(t *testing.T) {
	env := map[string]string{
		"RINGFORT_NODE_NAME": "from-env", "RINGFORT_NODE_DATA_DIR": "/env", "RINGFORT_NODE_INSECURE": "true",
		"RINGFORT_NODE_SERVICE_HOST": "10.0.0.1", // of Kubernetes, not ours
	}
	c, err := parse(env, "--name=from-flag", "--listen", "0.0.0.0:7", "--advertise", "me:7",
		"-join", "a:1, b:2", "--log-level", "warn", "--zone", "z1")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "from-flag" || c.DataDir != "/env" || !c.Insecure || c.LogLevel != slog.LevelWarn {
		t.Fatalf("%+v", c)
	}
	if d := cmp.Diff([]string{"a:1", "b:2"}, c.Join); d != "" {
		t.Fatal(d)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"8388608": 8 << 20, "8MiB": 8 << 20, "9 GiB": 9 << 30, "1TiB": 1 << 40, "10485760B": 10 << 20,
	} {
		c, err := parse(nil, "--max-log-bytes", text)
		if err != nil || c.MaxLogBytes != want {
			t.Errorf("%q: %+v, %v; want %d", text, c, err, want)
		}
	}
	for text, fault := range map[string]string{
		"8MB": "is no size", "": "is no size", "-1": "is no size", "MiB": "is no size", "1.5GiB": "is no size",
		"9999999999999TiB": "is no size", "1KiB": "from 8388608 to",
	} {
		if _, err := parse(nil, "--max-log-bytes="+text); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%q: %v; want %q", text, err, fault)
		}
	}
	for text, want := range map[string]int64{"auto": 0, "off": -1, "512MiB": 512 << 20} {
		c, err := parse(nil, "--low-space", text, "--ballast-size", text)
		if err != nil || c.LowSpace != want || c.BallastSize != want {
			t.Errorf("%q: %+v, %v; want %d", text, c, err, want)
		}
	}
	for text, fault := range map[string]string{"0": "nor auto or off", "some": "nor auto or off", "1KiB": "from 1048576 to"} {
		if _, err := parse(nil, "--low-space", text); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%q: %v; want %q", text, err, fault)
		}
	}
	if c, err := parse(nil, "--snapshot-rate", "0"); err != nil || c.SnapshotRate != 0 {
		t.Errorf("no limit: %+v, %v", c, err)
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	env := map[string]string{"RINGFORT_NODE_MAX_KEY_BYTES": "many"}
	_, err := parse(env, "stray", "--data-dri", "x", "--name", "", "--listen", "nohost",
		"--gossip-listen", "0.0.0.0:7501", "--join", "a:0,b", "--advertise", ":9", "--tls-cert", "c", "--tls-ca", "ca",
		"--log-level", "loud", "--log-format", "xml", "--election-timeout", "1ms", "--max-value-bytes", "9000000", "--sync-pacing", "soon",
		"--zone", "a b", "--frobnicate", "--stop-timeout")
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`unexpected argument "stray"`,
		"unknown flag --data-dri; did you mean --data-dir?",
		"unknown flag --frobnicate",
		"--stop-timeout needs a value",
		"--name must not be empty",
		`--listen "nohost" is no host:port`,
		"--gossip-listen 0.0.0.0:7501 can be reached from other machines",
		`--join "a:0" has a bad port`,
		`--join "b" is no host:port`,
		`--advertise ":9" names no host`,
		"--tls-cert and --tls-key go together",
		"--tls-ca is of no use",
		`--log-level: "loud" is not`,
		`--log-format is "xml"`,
		"--election-timeout is 1ms; from 100ms to 1m0s",
		`RINGFORT_NODE_MAX_KEY_BYTES: "many" is no whole number`,
		"--max-value-bytes is 9000000; from 1 to 8388608",
		`--sync-pacing: "soon" is no duration`,
		`--zone "a b" has a space`,
	} {
		found := false
		for _, f := range faults {
			found = found || strings.HasPrefix(f, want)
		}
		if !found {
			t.Errorf("missing: %s", want)
		}
	}
	if len(faults) != 19 {
		t.Errorf("%d faults:\n%v", len(faults), faults)
	}
}

func TestOnePortForBothListeners(t *testing.T) {
	_, err := parse(nil, "--name", "x", "--listen", "127.0.0.1:7401", "--gossip-listen", "127.0.0.1:7401")
	if err == nil || !strings.Contains(err.Error(), "gossip needs a port of its own") {
		t.Errorf("%v", err)
	}
	if _, err := parse(nil, "--name", "x", "--listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0"); err != nil {
		t.Errorf("two free ports: %v", err)
	}
}

// A misspelt variable is a fault; those that Kubernetes makes for a service of
// this name are not.
func TestMisspeltVariables(t *testing.T) {
	names := []string{"PATH", "RINGFORT_NODE_NAME", "RINGFORT_NODE_CONFIG", "RINGFORT_NODE_LISTEN"}
	for _, k := range []string{"SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC", "PORT", "PORT_7401_TCP", "PORT_7401_TCP_PROTO",
		"PORT_7401_TCP_PORT", "PORT_7401_TCP_ADDR", "PORT_7501_UDP", "SERVICE_PORT_GOSSIP"} {
		names = append(names, "RINGFORT_NODE_"+k)
	}
	env := func(string) (string, bool) { return "", false }
	from := Sources{Env: env, Hostname: "h", EnvNames: func() []string { return names }}
	if _, err := Parse(nil, from); err != nil {
		t.Errorf("%v", err)
	}
	names = append(names, "RINGFORT_NODE_DATADIR", "RINGFORT_NODE_GOSIP_LISTEN", "RINGFORT_NODE_ZONES")
	_, err := Parse(nil, from)
	for _, want := range []string{
		"unknown variable RINGFORT_NODE_DATADIR; did you mean RINGFORT_NODE_DATA_DIR?",
		"RINGFORT_NODE_GOSSIP_LISTEN?", "RINGFORT_NODE_ZONE?",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q: %v", want, err)
		}
	}
}

func TestListenersBeyondThisMachine(t *testing.T) {
	for _, c := range []struct {
		args []string
		ok   bool
	}{
		{[]string{"--listen", "localhost:1", "--gossip-listen", "[::1]:2"}, true},
		{[]string{"--listen", ":7401"}, false},
		{[]string{"--listen", ":7401", "--insecure"}, false}, // nobody could be sent there
		{[]string{"--listen", ":7401", "--insecure", "--advertise", "a.example:7401"}, true},
		{[]string{"--listen", "0.0.0.0:7401"}, false},
		{[]string{"--listen", "example.com:7401"}, false},
		{[]string{"--listen", "10.0.0.1:7401", "--tls-cert", "c", "--tls-key", "k"}, true},
		{[]string{"--gossip-listen", "10.0.0.1:7401", "--tls-cert", "c", "--tls-key", "k"}, false},
		{[]string{"--listen", "10.0.0.1:1", "--gossip-listen", "10.0.0.1:2", "--insecure"}, true},
		{[]string{"--listen", "10.0.0.1:1", "--insecure=false"}, false},
		{[]string{"--admin-listen", "10.0.0.1:1"}, false},
		{[]string{"--admin-listen", "10.0.0.1:1", "--tls-cert", "c", "--tls-key", "k"}, false}, // profiles for everybody
		{[]string{"--admin-listen", ":7481", "--insecure"}, true},
		{[]string{"--admin-listen", "localhost:0"}, true},
		{[]string{"--admin-listen", "off"}, true},
		{[]string{"--admin-listen", "7481"}, false},
	} {
		if _, err := parse(nil, c.args...); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.args, err)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	if _, err := parse(nil, "--bad", "--help"); !errors.Is(err, ErrHelp) {
		t.Errorf("got %v", err)
	}
	if _, err := parse(nil, "--version"); !errors.Is(err, ErrVersion) {
		t.Errorf("got %v", err)
	}
	var b strings.Builder
	if err := WriteHelp(&b); err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		if !strings.Contains(b.String(), "--"+s.name) {
			t.Errorf("help does not mention --%s", s.name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("--name=x --listen 127.0.0.1:0 --join a:1")
	f.Add("- -- --= -=x --name")
	f.Fuzz(func(t *testing.T, line string) {
		c, err := parse(nil, strings.Fields(line)...)
		if (c == nil) == (err == nil) {
			t.Fatal("neither a configuration nor an error")
		}
	})
}
