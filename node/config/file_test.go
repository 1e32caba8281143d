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
		"stop-timeout": "default", "name": "the host's name",
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
		"listen: nohost\n\nelection-timeout: 1x\n": {`node.yaml:3: election-timeout: "1x" is no duration`, `--listen "nohost" is no host:port`},
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
