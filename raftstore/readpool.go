package raftstore

import "sync"

// readTask is confirmed reads of one group.
type readTask struct {
	group *Group
	calls []*readCall
}

// readPool executes confirmed reads away from the goroutines that release them,
// which carry network answers and applies. Its backlog is bounded by what the
// groups admit.
type readPool struct {
	workers sync.WaitGroup
	work    chan struct{} // capacity 1 per worker: look at the backlog

	mu struct {
		sync.Mutex
		tasks  []readTask
		closed bool
	}
}

func newReadPool(workers int) *readPool {
	p := &readPool{work: make(chan struct{}, workers)}
	for range workers {
		p.workers.Go(p.loop)
	}
	return p
}

// submit never blocks. After close it drops the task: its group has answered.
func (p *readPool) submit(t readTask) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return
	}
	p.mu.tasks = append(p.mu.tasks, t)
	signal(p.work)
}

func (p *readPool) loop() {
	for range p.work {
		for {
			t, ok := p.next()
			if !ok {
				break
			}
			t.group.execute(t.calls)
		}
	}
}

func (p *readPool) next() (readTask, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mu.tasks) == 0 {
		return readTask{}, false
	}
	t := p.mu.tasks[0]
	p.mu.tasks = p.mu.tasks[1:]
	if len(p.mu.tasks) == 0 {
		p.mu.tasks = nil
	}
	return t, true
}

func (p *readPool) close() {
	p.mu.Lock()
	p.mu.closed = true
	close(p.work)
	p.mu.Unlock()
	p.workers.Wait()
}
