//go:build race

package sim

// The race detector makes a scenario about eight times slower: fewer keep make race
// within a quarter of an hour on two cores that do other things as well.
const defaultScenarios = 40
