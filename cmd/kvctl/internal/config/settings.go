package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Defaults.
const (
	DefaultEndpoint = "127.0.0.1:7401"
	DefaultTimeout  = 10 * time.Second
	DefaultOutput   = "table"
)

// The environment variables.
const (
	EnvEndpoints = "RINGFORT_ENDPOINTS"
	EnvTimeout   = "RINGFORT_TIMEOUT"
	EnvOutput    = "RINGFORT_OUTPUT"
	EnvContext   = "RINGFORT_CONTEXT"
	EnvConfig    = "RINGFORT_CONFIG"
)

// Outputs are the names that -o takes.
var Outputs = []string{"table", "json", "ndjson", "raw", "csv"}

// Flags are the settings given on the command line; nil and empty mean not
// given.
type Flags struct {
	Endpoints []string
	Context   string
	Timeout   *time.Duration
	Output    *string
}

// Settings are what any run of kvctl goes by.
type Settings struct {
	// Timeout bounds one operation.
	Timeout time.Duration
	// TimeoutGiven tells a chosen timeout from the default.
	TimeoutGiven bool
	Output       string
	// OutputGiven tells the flag from an environment or default.
	OutputGiven bool
}

// Target is the cluster that a run of kvctl talks to.
type Target struct {
	// Endpoints are gRPC addresses, host:port, of any nodes of the cluster.
	Endpoints []string
	// ClusterID is the cluster that must answer; empty: any.
	ClusterID string
	// From says where they come from, for messages.
	From string
	// Default: nobody named any.
	Default bool
}

// Resolve finds the settings that need no cluster: flag, environment, default.
// It reports all faults at once.
func Resolve(flags Flags, getenv func(string) string) (Settings, error) {
	var s Settings
	err := errors.Join(s.resolveTimeout(flags, getenv), s.resolveOutput(flags, getenv))
	return s, err
}

// ResolveTarget finds the endpoints: flag, environment, context file, default.
func ResolveTarget(flags Flags, getenv func(string) string, file *File) (Target, error) {
	var t Target
	// A context named for this run outranks endpoints from the environment, as
	// the flag does that names it.
	name, from := flags.Context, "--context"
	if name == "" && len(flags.Endpoints) == 0 && getenv(EnvEndpoints) == "" {
		name, from = getenv(EnvContext), EnvContext
		if name == "" {
			name, from = file.Current, "the context file's current context"
		}
	}
	switch {
	case len(flags.Endpoints) > 0:
		t.Endpoints, t.From = flags.Endpoints, "--endpoints"
	case name != "":
		context, ok := file.Contexts[name]
		if !ok {
			return t, fmt.Errorf("%s: there is no context %q (%s)", from, name, file.names())
		}
		t.Endpoints, t.ClusterID, t.From = context.Endpoints, context.ClusterID, fmt.Sprintf("context %q", name)
	case getenv(EnvEndpoints) != "":
		t.Endpoints, t.From = strings.Split(getenv(EnvEndpoints), ","), EnvEndpoints
	default:
		t.Endpoints, t.From, t.Default = []string{DefaultEndpoint}, "the default", true
	}
	var err error
	t.Endpoints, err = cleanEndpoints(t.Endpoints)
	if err != nil {
		return t, fmt.Errorf("endpoints from %s: %w", t.From, err)
	}
	return t, nil
}

// cleanEndpoints accepts "kv://h:1,h:2" as well as "h:1" and "h:2", and drops
// repetitions.
func cleanEndpoints(given []string) ([]string, error) {
	var clean []string
	var faults []error
	for _, text := range given {
		for _, endpoint := range strings.Split(strings.TrimPrefix(text, "kv://"), ",") {
			endpoint = strings.TrimSpace(endpoint)
			if err := checkEndpoint(endpoint); err != nil {
				faults = append(faults, err)
			} else if !slices.Contains(clean, endpoint) {
				clean = append(clean, endpoint)
			}
		}
	}
	if len(clean) == 0 && len(faults) == 0 {
		faults = append(faults, errors.New("none"))
	}
	return clean, errors.Join(faults...)
}

func checkEndpoint(endpoint string) error {
	host, portText, err := net.SplitHostPort(endpoint)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not host:port", endpoint)
	}
	if port, err := strconv.Atoi(portText); err != nil || port < 1 || port > 65535 {
		return fmt.Errorf("%q: the port is not in 1 to 65535", endpoint)
	}
	return nil
}

func (s *Settings) resolveTimeout(flags Flags, getenv func(string) string) error {
	s.Timeout = DefaultTimeout
	from := "--timeout"
	switch text := getenv(EnvTimeout); {
	case flags.Timeout != nil:
		s.Timeout, s.TimeoutGiven = *flags.Timeout, true
	case text != "":
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%s: %q is not a duration such as 10s", EnvTimeout, text)
		}
		s.Timeout, s.TimeoutGiven, from = d, true, EnvTimeout
	}
	if s.Timeout <= 0 {
		return fmt.Errorf("%s: %v is not positive", from, s.Timeout)
	}
	return nil
}

func (s *Settings) resolveOutput(flags Flags, getenv func(string) string) error {
	s.Output = DefaultOutput
	from := "--output"
	switch text := getenv(EnvOutput); {
	case flags.Output != nil:
		s.Output, s.OutputGiven = *flags.Output, true
	case text != "":
		s.Output, from = text, EnvOutput
	}
	if !slices.Contains(Outputs, s.Output) {
		return fmt.Errorf("%s: %q is not one of %s", from, s.Output, strings.Join(Outputs, ", "))
	}
	return nil
}
