package clock

import (
	"testing"
	"testing/synctest"
	"time"

	_ "github.com/ringfort/ringfort/internal/racebubble"
)

func TestVirtualFollowsTheBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewVirtual()
		wall, mono, boot := c.WallMicros(), c.Mono(), c.Boot()
		time.Sleep(time.Hour)
		for name, moved := range map[string]time.Duration{
			"wall": time.Duration(c.WallMicros()-wall) * time.Microsecond,
			"mono": c.Mono() - mono,
			"boot": c.Boot() - boot,
		} {
			if moved != time.Hour {
				t.Errorf("%s moved by %v in an hour of the bubble", name, moved)
			}
		}
	})
}

func TestSystemClocksRise(t *testing.T) {
	c := NewSystem()
	mono, boot := c.Mono(), c.Boot()
	if c.Mono() < mono || c.Boot() < boot || boot <= 0 {
		t.Error("a clock went back")
	}
}
