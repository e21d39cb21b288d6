package relay

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
)

// maxOpen bounds how long one answer (a 429 with a long Retry-After) can keep a
// channel out of use: its limit is often of one model, the breaker's of the channel.
const maxOpen = time.Minute

// breakers keep requests from channels that do not answer. A channel has an
// entry only while it is in trouble, so the usual look-up is one atomic load.
//
// A channel opens after a number of failures in a row within a window, for a
// cool-down. After that one request at a time is let through as a probe: its
// success closes the breaker, its failure opens it again. When every candidate
// is open the one that opened first is tried all the same, once in a request:
// failures in a row may be the fault of the requests (a prompt that makes an
// upstream answer 500), and one caller must not be able to take a model away from
// the others.
type breakers struct {
	opened func(channel int64, open bool) // told of transitions
	some   atomic.Int64                   // number of entries
	mu     sync.Mutex
	m      map[int64]*breaker
}

type breaker struct {
	rev      core.Revision // a changed channel starts anew
	failures int
	first    time.Time // of the failures that are counted
	openAt   time.Time // zero = closed
	until    time.Time // end of the cool-down
	probe    time.Time // when a probe under way is given up; zero = none
}

// allow reports whether a request may use c, and since when it is open if not.
// probing is true when the request is the probe of a half-open breaker: it must
// be reported with ok, fail or cancel.
func (b *breakers) allow(c *core.Channel, cfg *config.Breaker, now time.Time) (allowed, probing bool, openAt time.Time) {
	if b.some.Load() == 0 || cfg.Failures == 0 {
		return true, false, time.Time{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.m[c.ID]
	switch {
	case e == nil || e.rev != c.Rev || e.openAt.IsZero():
		return true, false, time.Time{}
	case now.Before(e.until), now.Before(e.probe):
		return false, false, e.openAt
	}
	return true, true, e.openAt
}

// startProbe marks the probe that allow granted. It is false when another
// request was faster.
func (b *breakers) startProbe(c *core.Channel, cfg *config.Breaker, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.m[c.ID]
	if e == nil || e.openAt.IsZero() {
		return true
	}
	if now.Before(e.probe) {
		return false
	}
	e.probe = now.Add(max(cfg.Cooldown, time.Second))
	return true
}

// ok notes that upstream answered.
func (b *breakers) ok(c *core.Channel) {
	if b.some.Load() == 0 {
		return
	}
	b.mu.Lock()
	e := b.m[c.ID]
	if e != nil {
		delete(b.m, c.ID)
		b.some.Add(-1)
	}
	b.mu.Unlock()
	if e != nil && !e.openAt.IsZero() {
		b.opened(c.ID, false)
	}
}

// cancel ends a probe without a finding: the client left.
func (b *breakers) cancel(c *core.Channel) {
	if b.some.Load() == 0 {
		return
	}
	b.mu.Lock()
	if e := b.m[c.ID]; e != nil {
		e.probe = time.Time{}
	}
	b.mu.Unlock()
}

// fail notes that upstream did not answer or failed. pause > 0 opens at once,
// for that long: upstream itself said when to come back.
func (b *breakers) fail(c *core.Channel, cfg *config.Breaker, now time.Time, pause time.Duration, live func(id int64) bool) {
	if cfg.Failures == 0 {
		return
	}
	b.mu.Lock()
	e := b.m[c.ID]
	if e == nil || e.rev != c.Rev {
		if e == nil {
			b.prune(live)
			b.some.Add(1)
		}
		e = &breaker{rev: c.Rev}
		b.m[c.ID] = e
	}
	was := !e.openAt.IsZero()
	if now.Sub(e.first) > cfg.Window {
		e.first, e.failures = now, 0
	}
	e.failures++
	e.probe = time.Time{}
	if was || pause > 0 || e.failures >= cfg.Failures {
		e.openAt = now
		e.until = now.Add(max(cfg.Cooldown, min(pause, maxOpen)))
	}
	is := !e.openAt.IsZero()
	b.mu.Unlock()
	if is && !was {
		b.opened(c.ID, true)
	}
}

// prune drops the entries of channels that are gone, so that the map is bounded
// by the number of channels. It runs when an entry is made, which is rare.
func (b *breakers) prune(live func(id int64) bool) {
	if b.m == nil {
		b.m = map[int64]*breaker{}
	}
	for id := range b.m {
		if !live(id) {
			delete(b.m, id)
			b.some.Add(-1)
			b.opened(id, false)
		}
	}
}
