package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/tests/mirror"
)

const (
	mirrorCount = 2
	// cacheBytes is little, so that the caches throw out what they hold.
	cacheBytes = 16 << 10
)

// mirrors are workers who know what they must see (package mirror), with a client
// each for writes and another with a cache.
type mirrors struct {
	workers []*mirror.Worker
	clients []*client.Client
	wrong   [mirrorCount]error // what each saw first
	report  mirror.Report
}

func (s *scenario) startMirrors(running *sync.WaitGroup, quit <-chan struct{}) error {
	m := &s.mirrors
	for i := range mirrorCount {
		writer, err := s.open(uint64(0x80 + i))
		if err != nil {
			return err
		}
		m.clients = append(m.clients, writer)
		reader, err := s.open(uint64(0x90+i), client.WithCache(cacheBytes))
		if err != nil {
			return err
		}
		m.clients = append(m.clients, reader)
		w := mirror.New(mirror.Options{
			Name: fmt.Sprint("m", i), Client: writer, Reader: reader,
			Rand:   rand.New(rand.NewPCG(s.plan.Seed, uint64(0x3000+i))),
			Now:    func() time.Duration { return time.Since(s.work.start) },
			Honest: s.plan.honestClocks(),
		})
		m.workers = append(m.workers, w)
		running.Go(func() { m.wrong[i] = w.Run(quit) })
	}
	return nil
}

// finish judges what the watches saw, if the cluster is well, and closes the clients.
func (m *mirrors) finish(well bool) error {
	errs := m.wrong[:]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if !well {
		cancel()
	}
	for _, w := range m.workers {
		r, err := w.Finish(ctx)
		if well {
			errs = append(errs, err)
		}
		m.report.Add(r)
	}
	for _, c := range m.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// honestClocks reports whether no more than one node's clock is ever wrong: of each
// shard's replicas a majority is right.
func (p *Plan) honestClocks() bool {
	wrong := make(map[int]bool)
	for _, step := range p.Steps {
		if step.Fault == FaultClock || step.Fault == FaultClockDown {
			wrong[step.Nodes[0]] = true
		}
	}
	return len(wrong) <= 1
}
