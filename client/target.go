package client

import (
	"net"
	"slices"
	"strconv"
	"strings"
)

const scheme = "kv://"

// parseTarget splits "kv://host:port,host:port" or the same without the scheme
// into its endpoints, in order and without repetitions.
func parseTarget(target string) ([]string, error) {
	list := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(target), scheme), "/")
	var endpoints []string
	for endpoint := range strings.SplitSeq(list, ",") {
		endpoint = strings.TrimSpace(endpoint)
		host, port, err := net.SplitHostPort(endpoint)
		if err != nil {
			return nil, invalid("open", "", "endpoint %q of target %q is not host:port: %w", endpoint, target, err)
		}
		if host == "" {
			return nil, invalid("open", "", "endpoint %q of target %q names no host", endpoint, target)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, invalid("open", "", "endpoint %q of target %q: the port must be 1 to 65535", endpoint, target)
		}
		if !slices.Contains(endpoints, endpoint) {
			endpoints = append(endpoints, endpoint)
		}
	}
	return endpoints, nil
}
