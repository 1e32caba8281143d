//go:build !race

package sim

const defaultScenarios = 100
