// Package clock passes readings of time into code that must be testable with
// clocks that jump or drift. Timers are not here: they come from package time,
// which testing/synctest virtualises.
package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock reads the three clocks of one node. Safe for concurrent use.
type Clock interface {
	// WallMicros is the wall clock in microseconds since the Unix epoch. It may
	// jump either way.
	WallMicros() uint64
	// Mono is a monotonic clock from an arbitrary start. It stands still while
	// the machine is suspended.
	Mono() time.Duration
	// Boot is like Mono and goes on during suspend (CLOCK_BOOTTIME). Ages that
	// bound staleness use it (rule R4).
	Boot() time.Duration
}

// System reads the machine's clocks. Inside a testing/synctest bubble Wall and
// Mono follow the bubble's time, and so does Boot when NewSystem ran inside it.
type System struct {
	start    time.Time
	bootless bool
}

// NewSystem returns the machine's clocks.
func NewSystem() *System { return &System{start: time.Now()} }

// NewVirtual returns clocks that read package time only, for use inside a
// testing/synctest bubble, where CLOCK_BOOTTIME would leak real time.
func NewVirtual() *System { return &System{start: time.Now(), bootless: true} }

// WallMicros implements Clock.
func (s *System) WallMicros() uint64 { return uint64(time.Now().UnixMicro()) }

// Mono implements Clock.
func (s *System) Mono() time.Duration { return time.Since(s.start) }

// Boot implements Clock.
func (s *System) Boot() time.Duration {
	if s.bootless {
		return s.Mono()
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Linux has had this clock since 2.6.39; without it no age can be trusted.
		panic("clock: CLOCK_BOOTTIME: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
