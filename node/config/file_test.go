package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const sampleFile = `# a node of the second rack
data-dir: /var/lib/ringfort
listen: 127.0.0.1:7411
join: [10.0.0.1:7401, "10.0.0.2:7401"]
max-log-bytes: 1GiB
insecure: true
`

func TestFileComesAfterFlagsAndVariables(t *testing.T) {
	env := map[string]string{fileEnv: "node.yaml", "RINGFORT_NODE_LISTEN": "127.0.0.1:7412"}
	c, origins, err := Explain([]string{"--max-log-bytes", "2GiB"}, sources(env, map[string]string{"node.yaml": sampleFile}))
	if err != nil {
		t.Fatal(err)
	}
	if c.DataDir != "/var/lib/ringfort" || c.Listen != "127.0.0.1:7412" || c.MaxLogBytes != 2<<30 || !c.Insecure {
		t.Errorf("%+v", c)
	}
	if !slices.Equal(c.Join, []string{"10.0.0.1:7401", "10.0.0.2:7401"}) {
		t.Errorf("join: %q", c.Join)
	}
	for name, source := range map[string]string{
		"data-dir": "node.yaml:2: data-dir", "listen": "RINGFORT_NODE_LISTEN", "max-log-bytes": "--max-log-bytes",
		"stop-timeout": "default", "name": "the host's name", "advertise": "not set: the same as listen", "tls-ca": "not set: the system's",
	} {
		if !slices.ContainsFunc(origins, func(o Origin) bool { return o.Name == name && o.Source == source }) {
			t.Errorf("%s does not come from %s: %+v", name, source, origins)
		}
	}
}

func TestFileFaults(t *testing.T) {
	for content, want := range map[string][]string{
		"data_dir: /x\n": {`node.yaml:1: unknown setting "data_dir"; did you mean data-dir?`},
		"listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n": {"node.yaml:2: listen stands here twice"},
		"listen: {a: 1}\n":                           {"node.yaml:1: listen must be a single value"},
		"zone: [a, b]\n":                             {"node.yaml:1: zone must be a single value"},
		"data-dir:\n":                                {"node.yaml:1: data-dir must be a single value"},
		"- a\n":                                      {"node.yaml:1: a mapping of settings is expected"},
		"a: b: c\n":                                  {"--config node.yaml is no YAML"},
		"listen: nohost\n\nelection-timeout: 1x\n": {`node.yaml:3: election-timeout: "1x" is no duration`, `node.yaml:1: --listen "nohost" is no host:port`},
		"config: other.yaml\n":                     {`node.yaml:1: unknown setting "config"`},
		strings.Repeat("#", maxFileBytes+1):        {"--config node.yaml has 1048577 bytes"},
	} {
		_, err := Parse([]string{"--config", "node.yaml"}, sources(nil, map[string]string{"node.yaml": content}))
		var faults Faults
		if !errors.As(err, &faults) || len(faults) != len(want) {
			t.Errorf("%.40q: %v; want %d faults", content, err, len(want))
			continue
		}
		for _, w := range want {
			if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, w) }) {
				t.Errorf("%.40q: missing %q in %q", content, w, faults)
			}
		}
	}
	if _, err := parse(nil, "--config", "gone.yaml"); err == nil || !strings.HasPrefix(Faults{err.Error()}[0], "--config gone.yaml: there is no such file") {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Parse([]string{"--config", "node.yaml"}, sources(nil, map[string]string{"node.yaml": "# nothing\n"})); err != nil {
		t.Errorf("empty file: %v", err)
	}
}

// Faults of a file come line by line, whatever found them, after those of flags and
// variables; a value of the file that another one hides is no line's.
func TestFileFaultsAreInLineOrder(t *testing.T) {
	const file = `stop-timeout: 1h
bogus: 1
listen: nohost
election-timeout: soon
zone: a b
bogus: 2
max-log-bytes: 1KiB
data-dir: /a
`
	_, err := Parse([]string{"--config", "node.yaml", "--max-log-bytes", "2KiB", "--bad"}, sources(nil, map[string]string{"node.yaml": file}))
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	want := []string{
		"unknown flag --bad", "--max-log-bytes is 2048 bytes", "node.yaml:1: --stop-timeout is 1h0m0s", `node.yaml:2: unknown setting "bogus"`,
		`node.yaml:3: --listen "nohost"`, `node.yaml:4: election-timeout: "soon"`, `node.yaml:5: --zone "a b"`, `node.yaml:6: unknown setting "bogus"`,
	}
	if len(faults) != len(want) {
		t.Fatalf("%d faults, want %d:\n%v", len(faults), len(want), faults)
	}
	for i, w := range want {
		if !strings.HasPrefix(faults[i], w) {
			t.Errorf("fault %d is %q; want %q", i, faults[i], w)
		}
	}
}

// Every setting has an origin: a value, or words for what holds without one.
func TestEverySettingHasAnOrigin(t *testing.T) {
	_, origins, err := Explain(nil, sources(nil, nil))
	if err != nil || len(origins) != len(settings) {
		t.Fatalf("%d origins of %d settings, %v", len(origins), len(settings), err)
	}
	for _, o := range origins {
		if o.Source == "" || o.Unset == (o.Value != "") {
			t.Errorf("%+v", o)
		}
	}
}
