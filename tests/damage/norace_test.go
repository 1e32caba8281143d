//go:build !race

package damage

const defaultTrials = 80
