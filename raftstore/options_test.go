package raftstore

import (
	"strings"
	"testing"
	"time"

	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/transport"
)

func TestOptionsAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		fault  string // empty: none
	}{
		"good":                        {func(*Options) {}, ""},
		"no directory":                {func(o *Options) { o.Dir = "" }, "directory"},
		"no id":                       {func(o *Options) { o.Self = "" }, "node id"},
		"no network":                  {func(o *Options) { o.Network = nil }, "network"},
		"end before silence":          {func(o *Options) { o.DiskSilence = o.DiskExit }, "the second must be longer"},
		"no nonce":                    {func(o *Options) { o.Nonce = 0 }, "nonce"},
		"all may queue one write":     {func(o *Options) { o.MaxNodeQueuedBytes = MaxWriteBytes }, ""},
		"all may not queue one write": {func(o *Options) { o.MaxNodeQueuedBytes = MaxWriteBytes - 1 }, "all shards may queue"},
	} {
		o := Options{Dir: "d", Self: nodeID(1), Clock: clock.NewVirtual(), Network: new(transport.Network), Fatal: func(error) {}, Nonce: 1}.withDefaults()
		o.DiskSilence, o.DiskExit = time.Second, 2*time.Second
		c.change(&o)
		err := o.validate()
		if (err != nil) != (c.fault != "") || err != nil && (kverr.KindOf(err) != kverr.Invalid || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
