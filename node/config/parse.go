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

// Faults is everything that is wrong, in the order of the flags.
type Faults []string

func (f Faults) Error() string { return strings.Join(f, "\n") }

// Parse reads arguments (without the program's name) and the environment. The
// error is ErrHelp, ErrVersion or Faults.
func Parse(args []string, env func(string) (string, bool), hostname string) (*Config, error) {
	c := &Config{Name: hostname}
	var faults Faults
	given, strays, err := scan(args)
	if err != nil {
		return nil, err
	}
	faults = append(faults, strays...)
	for _, s := range settings {
		value, source, found := "", "", false
		if s.def != "" {
			value, source, found = s.def, "default", true
		}
		if v, ok := env(s.envName()); ok {
			value, source, found = v, s.envName(), true
		}
		if v, ok := given[s.name]; ok {
			value, source, found = v, "--"+s.name, true
		}
		if !found {
			continue
		}
		if err := s.set(c, value); err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", source, err))
			// The default stands in, so that the rest can still be judged.
			if s.def != "" {
				_ = s.set(c, s.def)
			}
		}
	}
	faults = append(faults, c.faults()...)
	if len(faults) > 0 {
		return nil, faults
	}
	return c, nil
}

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
		switch {
		case i < 0:
			faults = append(faults, fmt.Sprintf("unknown flag --%s%s", name, hint(name)))
			// Its value, if it has one, is not a stray argument too.
			if !hasValue && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
				args = args[1:]
			}
			continue
		case hasValue:
		case settings[i].isSwitch:
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
		return "; kvnode --help lists all"
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
