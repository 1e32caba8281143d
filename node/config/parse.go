package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Special results of Parse: what the caller asked to see instead of a start.
var (
	ErrHelp    = errors.New("help asked for")
	ErrVersion = errors.New("version asked for")
)

// Faults is everything that is wrong: with flags, variables and defaults, in the
// order of the flags, then with the file, line by line.
type Faults []string

func (f Faults) Error() string { return strings.Join(f, "\n") }

// Sources is where a configuration comes from, beside the arguments.
type Sources struct {
	Env      func(string) (string, bool)
	ReadFile func(string) ([]byte, error) // of --config; nil: there are no files
	EnvNames func() []string              // all variables, to find misspelt ones; nil: none are looked for
	Hostname string                       // the default name; empty: --name is required
}

// Origin says for one setting what it is and where that came from.
type Origin struct {
	Name, Value, Source string // Source: a flag, a variable, a line of a file or "default"
	// Unset: nobody has set it, and no value would mean the same. Value is empty, and
	// Source says in words what holds instead.
	Unset bool
}

// Parse reads arguments (without the program's name), the environment and the
// configuration file that either of them names. Flags come before variables,
// variables before the file, the file before defaults. The error is ErrHelp,
// ErrVersion or Faults.
func Parse(args []string, from Sources) (*Config, error) {
	c, _, err := Explain(args, from)
	return c, err
}

// Explain is Parse, and says for every setting where it came from.
func Explain(args []string, from Sources) (*Config, []Origin, error) {
	c := &Config{Name: from.Hostname}
	given, strays, err := scan(args)
	if err != nil {
		return nil, nil, err
	}
	var faults located
	faults.add(0, strays...)
	if from.EnvNames != nil {
		faults.add(0, strayVariables(from.EnvNames())...)
	}
	file := make(map[string]fileValue)
	if path, ok := configFile(given, from); ok {
		file = readFile(path, from.ReadFile, &faults)
	}
	var origins []Origin
	lines := make(map[string]fileValue) // of the settings that come from the file
	for _, s := range settings {
		value, source, found := s.resolve(given, from.Env, file)
		if !found {
			origin := Origin{Name: s.name, Source: s.absent, Unset: true}
			if s.name == "name" && from.Hostname != "" {
				origin = Origin{Name: s.name, Value: from.Hostname, Source: "the host's name"}
			}
			origins = append(origins, origin)
			continue
		}
		origins = append(origins, Origin{Name: s.name, Value: value, Source: source})
		if v, ok := file[s.name]; ok && v.source == source {
			lines[s.name] = v
		}
		if err := s.set(c, value); err != nil {
			faults.add(lines[s.name].line, fmt.Sprintf("%s: %v", source, err))
			// The default stands in, so that the rest can still be judged.
			if s.def != "" {
				_ = s.set(c, s.def)
			}
		}
	}
	for _, fault := range c.faults() {
		// It begins with the flag of the setting that is to be changed.
		flag, _, _ := strings.Cut(fault, " ")
		if v, ok := lines[strings.TrimPrefix(flag, "--")]; ok {
			faults.add(v.line, v.where+": "+fault)
		} else {
			faults.add(0, fault)
		}
	}
	if len(faults) > 0 {
		return nil, nil, faults.inOrder()
	}
	return c, origins, nil
}

// locatedFault is a fault and the line of the file that it is about, 0 for none.
type locatedFault struct {
	line  int
	fault string
}

type located []locatedFault

func (l *located) add(line int, faults ...string) {
	for _, f := range faults {
		*l = append(*l, locatedFault{line, f})
	}
}

func (l located) inOrder() Faults {
	slices.SortStableFunc(l, func(a, b locatedFault) int { return a.line - b.line })
	faults := make(Faults, len(l))
	for i, f := range l {
		faults[i] = f.fault
	}
	return faults
}

// resolve finds the value that counts.
func (s setting) resolve(given map[string]string, env func(string) (string, bool), file map[string]fileValue) (value, source string, found bool) {
	if v, ok := given[s.name]; ok {
		return v, "--" + s.name, true
	}
	if v, ok := env(s.envName()); ok {
		return v, s.envName(), true
	}
	if v, ok := file[s.name]; ok {
		return v.value, v.source, true
	}
	return s.def, "default", s.def != ""
}

func configFile(given map[string]string, from Sources) (path string, ok bool) {
	if from.ReadFile == nil {
		return "", false
	}
	if path, ok = given[configFlag]; ok {
		return path, true
	}
	return from.Env(fileEnv)
}

// configFlag is the one flag that is not a setting: a file cannot name itself.
const configFlag = "config"

// scan takes --name=value, --name value, --switch and the same with one dash.
func scan(args []string) (given map[string]string, faults Faults, err error) {
	given = make(map[string]string)
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, isFlag := strings.CutPrefix(arg, "-")
		name = strings.TrimPrefix(name, "-")
		if !isFlag || name == "" {
			faults = append(faults, fmt.Sprintf("unexpected argument %q: kvnode takes flags only", arg))
			continue
		}
		name, value, hasValue := strings.Cut(name, "=")
		switch name {
		case "help", "h":
			return nil, nil, ErrHelp
		case "version":
			return nil, nil, ErrVersion
		}
		i := slices.IndexFunc(settings, func(s setting) bool { return s.name == name })
		if name == configFlag {
			i = len(settings)
		}
		switch {
		case i < 0:
			faults = append(faults, fmt.Sprintf("unknown flag --%s%s", name, hint(name)))
			// Its value, if it has one, is not a stray argument too.
			if !hasValue && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
				args = args[1:]
			}
			continue
		case hasValue:
		case i < len(settings) && settings[i].isSwitch:
			value = "true"
		case len(args) == 0 || strings.HasPrefix(args[0], "--"):
			faults = append(faults, fmt.Sprintf("--%s needs a value", name))
			continue
		default:
			value, args = args[0], args[1:]
		}
		given[name] = value
	}
	return given, faults, nil
}

// strayVariables are faults for variables that look like one of ours written
// wrongly. Others of our form are not ours: Kubernetes makes some.
func strayVariables(names []string) (faults Faults) {
	for _, name := range names {
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours || name == fileEnv || slices.ContainsFunc(settings, func(s setting) bool { return s.envName() == name }) {
			continue
		}
		for _, s := range settings {
			known := strings.TrimPrefix(s.envName(), envPrefix)
			// A short name is soon like another one.
			if distance(rest, known) <= min(2, len(known)/4) {
				faults = append(faults, fmt.Sprintf("unknown variable %s; did you mean %s?", name, s.envName()))
				break
			}
		}
	}
	return faults
}

// hint names the flag that was probably meant.
func hint(name string) string {
	best, bestDistance := "", 3
	for _, s := range settings {
		if d := distance(name, s.name); d < bestDistance {
			best, bestDistance = s.name, d
		}
		if len(name) >= 3 && (strings.HasPrefix(s.name, name) || strings.HasSuffix(s.name, name)) && best == "" {
			best = s.name
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean --" + best + "?"
}

// distance is the number of letters to insert, delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
