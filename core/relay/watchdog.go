package relay

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Why the watchdog ended an attempt.
var (
	errFirstByte = errors.New("no answer within relay.first_byte_timeout")
	errIdle      = errors.New("silent for relay.idle_timeout")
	errTotal     = errors.New("not finished within relay.timeout")
)

// watchdog is the one timer of an exchange: it ends attempts that are silent for
// too long and pings the client meanwhile. Activity costs one atomic store; the
// timer finds out when it fires.
type watchdog struct {
	x     *exchange
	timer *time.Timer
	at    time.Time    // when the timer fires
	last  atomic.Int64 // time of upstream's last sign of life, since x.start

	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the attempt under way
	quiet  time.Duration           // longest silence allowed in this phase; 0 = any
	silent error                   // what its end is called
	pings  bool                    // the client may be pinged in this phase
	why    error                   // set when the watchdog ended the attempt
	ended  bool
}

// phase begins a phase of an attempt.
func (d *watchdog) phase(now time.Time, cancel context.CancelCauseFunc, quiet time.Duration, silent error, pings bool) {
	d.touch(now)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancel, d.quiet, d.silent, d.pings = cancel, quiet, silent, pings
	d.arm(now, d.due(now))
}

// arm lets the timer fire after next at the latest. One that fires sooner is
// left: it finds out that it is too early.
func (d *watchdog) arm(now time.Time, next time.Duration) {
	switch at := now.Add(next); {
	case next <= 0 || d.ended:
	case d.timer == nil:
		d.at = at
		d.timer = time.AfterFunc(next, d.fire)
	case d.at.IsZero() || at.Before(d.at):
		d.at = at
		d.timer.Reset(next)
	}
}

// rest begins a phase without an attempt: nothing is to be cancelled.
func (d *watchdog) rest() { d.phase(d.x.rl.o.Now(), nil, 0, nil, d.x.pingsEarly()) }

// touch notes a sign of life.
func (d *watchdog) touch(now time.Time) { d.last.Store(int64(now.Sub(d.x.start))) }

// due is how long from now the timer has something to look at; 0 = never.
func (d *watchdog) due(now time.Time) time.Duration {
	var next time.Duration
	sooner := func(t time.Duration) {
		if t = max(t, time.Millisecond); next == 0 || t < next {
			next = t
		}
	}
	since := now.Sub(d.x.start)
	if d.quiet > 0 && d.cancel != nil {
		sooner(time.Duration(d.last.Load()) + d.quiet - since)
	}
	if t := d.x.cfg.Relay.Timeout; t > 0 && d.cancel != nil {
		sooner(t - since)
	}
	if every := d.x.cfg.Relay.PingInterval; d.pings && every > 0 {
		sooner(every)
	}
	return next
}

// fire runs in the timer's goroutine.
func (d *watchdog) fire() {
	now := d.x.rl.o.Now()
	d.mu.Lock()
	if d.ended {
		d.mu.Unlock()
		return
	}
	d.at = time.Time{}
	since := now.Sub(d.x.start)
	if d.cancel != nil && d.why == nil {
		switch t := d.x.cfg.Relay.Timeout; {
		case t > 0 && since >= t:
			d.why = errTotal
		case d.quiet > 0 && since-time.Duration(d.last.Load()) >= d.quiet:
			d.why = d.silent
		}
		if d.why != nil {
			d.cancel(d.why)
		}
	}
	pings := d.pings && d.why == nil
	d.mu.Unlock()

	var again time.Duration
	if every := d.x.cfg.Relay.PingInterval; pings && every > 0 {
		again = d.x.out.ping(now, every)
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	next := d.due(now)
	if again > 0 && (next == 0 || again < next) {
		next = again
	}
	d.arm(now, next)
}

// reason is why the watchdog ended the attempt, nil if it did not.
func (d *watchdog) reason() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.why
}

// clear forgets the reason before the next attempt.
func (d *watchdog) clear() {
	d.mu.Lock()
	d.why = nil
	d.mu.Unlock()
}

// stop ends the watchdog. After it no ping is written: the handler may return.
func (d *watchdog) stop() {
	d.mu.Lock()
	d.ended = true
	if d.timer != nil {
		d.timer.Stop()
	}
	d.mu.Unlock()
	// A ping under way holds the client's lock.
	d.x.out.mu.Lock()
	d.x.out.broken = errEnded
	d.x.out.mu.Unlock()
}

var errEnded = errors.New("the exchange has ended")
