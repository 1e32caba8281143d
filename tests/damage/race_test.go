//go:build race

package damage

// Under the race detector a trial takes several times longer, and shows no more.
const defaultTrials = 40
