//go:build race

package racebubble

import "runtime"

// Before package testing reads it as the default of -cpu.
func init() { runtime.GOMAXPROCS(1) }
