package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// fileEnv is where the configuration file may be named instead of --config.
const fileEnv = "RINGFORT_NODE_CONFIG"

// maxFileBytes bounds a configuration file: larger ones are something else.
const maxFileBytes = 1 << 20

// fileValue is what a file says about one setting.
type fileValue struct {
	value, source string
	line          int
	where         string // FILE:LINE
}

// readFile reads a configuration file: one YAML mapping whose keys are the names
// of the flags. Keys that are no flag, keys that stand twice and values that are no
// scalar (or, for join, a list of scalars) are faults.
func readFile(path string, read func(string) ([]byte, error), faults *located) map[string]fileValue {
	fail := func(line int, format string, args ...any) { faults.add(line, fmt.Sprintf(format, args...)) }
	b, err := read(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		fail(0, "--config %s: there is no such file", path)
		return nil
	case err != nil:
		fail(0, "--config %s: %v", path, err)
		return nil
	case len(b) > maxFileBytes:
		fail(0, "--config %s has %d bytes: a configuration has at most %d", path, len(b), maxFileBytes)
		return nil
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		fail(0, "--config %s is no YAML: %v", path, err)
		return nil
	}
	if len(doc.Content) == 0 {
		return nil // empty, or comments only
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		fail(root.Line, "%s:%d: a mapping of settings is expected, such as \"data-dir: /var/lib/ringfort\"", path, root.Line)
		return nil
	}
	values := make(map[string]fileValue)
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, node := root.Content[i], root.Content[i+1]
		where := fmt.Sprintf("%s:%d", path, key.Line)
		known := slices.ContainsFunc(settings, func(s setting) bool { return s.name == key.Value })
		if !known {
			fail(key.Line, "%s: unknown setting %q%s", where, key.Value, fileHint(key.Value))
			continue
		}
		if _, twice := values[key.Value]; twice {
			fail(key.Line, "%s: %s stands here twice", where, key.Value)
			continue
		}
		value, ok := scalar(key.Value, node)
		if !ok {
			fail(key.Line, "%s: %s must be a single value", where, key.Value)
			continue
		}
		values[key.Value] = fileValue{value, fmt.Sprintf("%s: %s", where, key.Value), key.Line, where}
	}
	return values
}

// scalar is the text of a value; a list only where a flag takes one.
func scalar(name string, n *yaml.Node) (string, bool) {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		return n.Value, true
	}
	if n.Kind != yaml.SequenceNode || name != "join" {
		return "", false
	}
	var parts []string
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode {
			return "", false
		}
		parts = append(parts, item.Value)
	}
	return strings.Join(parts, ","), true
}

// fileHint names the setting that was probably meant, also when it is spelled with
// underscores.
func fileHint(name string) string {
	return strings.ReplaceAll(hint(strings.ReplaceAll(name, "_", "-")), "did you mean --", "did you mean ")
}
