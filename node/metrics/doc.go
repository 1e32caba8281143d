// Package metrics is what a node tells Prometheus.
package metrics
