// Package cli holds black-box tests of the built binaries: kvctl against real
// kvnode processes, as a user would type it.
//
// They build both binaries, run one cluster of three nodes for the whole run of
// the test binary, kill its processes, and leave it healthy for the next test.
// The command line itself, without real nodes, is tested in cmd/kvctl.
package cli
