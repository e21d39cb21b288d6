package ledger

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

const (
	backgroundTimeout = 2 * time.Second       // one transaction in the background
	firstBackoff      = 50 * time.Millisecond // doubled up to lastBackoff
	lastBackoff       = time.Second
	maxFailing        = 3 // accounts that fail in one pass before the database counts as away
)

// UnwrittenError is what Close could not write in its time.
type UnwrittenError struct{ Settlements, Counters, Logs int }

// Error implements error.
func (e *UnwrittenError) Error() string {
	return fmt.Sprintf("ledger: not written: %d settlements, %d counters, %d log rows; open leases are settled at the next start", e.Settlements, e.Counters, e.Logs)
}

// settlement is one booking and the log row that follows it.
type settlement struct {
	req    store.SettleRequest
	cancel *store.Lease // undo this reservation of unknown outcome instead
	row    *logEntry    // nil = none
	tries  int
}

func (l *Ledger) settlement(r *core.Reservation, o *core.Outcome, state string, quota int64, row *logEntry) *settlement {
	q := &r.Request
	s := &settlement{row: row, req: store.SettleRequest{LeaseID: r.ID, UserID: q.User.ID, ChargeToken: r.TokenHas, Granted: r.Amount,
		Actual: quota, State: state, AccessedAt: l.o.Now(), CountRequest: state == store.LeaseSettled}}
	if q.Token != nil {
		s.req.TokenID = q.Token.ID
	}
	if o.Channel != nil {
		s.req.ChannelID = o.Channel.ID
	}
	return s
}

// book settles now, or leaves it to the background when the database is away.
func (l *Ledger) book(ctx context.Context, s *settlement) {
	err := errStalled
	if l.health.up() {
		err = l.try(context.WithoutCancel(ctx), s, 2*l.timeout())
	}
	if err != nil {
		l.later(s)
		l.o.Logger.WarnContext(ctx, "settlement waits for the database", "lease", s.req.LeaseID, "error", err)
	}
}

func (l *Ledger) later(s *settlement) {
	l.settles.push(s)
	l.meters.pending.Set(float64(l.settles.len()))
}

// try books once. Exactly-once is the store's: it settles open leases only, so a
// repeat after an unclear commit finds the lease settled and books nothing.
func (l *Ledger) try(ctx context.Context, s *settlement, timeout time.Duration) error {
	lane := l.lane(s.req.UserID)
	if err := l.lanes.enter(ctx, lane, timeout); err != nil {
		return err
	}
	s.tries++
	tctx, cancel := patience(ctx, timeout)
	defer cancel()
	done, err := true, error(nil)
	if s.cancel != nil {
		err = l.o.Store.CancelLease(tctx, *s.cancel)
	} else {
		done, err = l.o.Store.Settle(tctx, s.req)
	}
	if err != nil {
		how := through
		if away(err) || tctx.Err() != nil {
			how = stalled
			l.health.failed()
		}
		l.lanes.leave(lane, how)
		return err
	}
	l.health.answered()
	l.lanes.leave(lane, through)
	if !done && s.tries == 1 {
		// Not by an earlier try whose answer was lost: whoever closed it wrote the row.
		l.o.Logger.WarnContext(ctx, "lease was not open any more", "lease", s.req.LeaseID, "actual", s.req.Actual)
		return nil
	}
	if s.row != nil {
		l.log(s.row)
	}
	return nil
}

// away reports whether err means that the database did not answer.
func away(err error) bool { return core.IsCode(err, core.CodeStoreUnavailable) }

// health lets requests fail at once while the database is surely away, but for a
// probe now and then: so that an outage leaves few reservations of unknown
// outcome, and finished streams do not wait for it.
type health struct {
	fails atomic.Int32 // failures since the last answer
	probe atomic.Int64 // unix nanoseconds of the last request that was let through
	now   func() time.Time
}

const (
	maxFails   = 5
	probeEvery = 100 * time.Millisecond
)

func (h *health) answered() { h.fails.Store(0) }
func (h *health) failed()   { h.fails.Add(1) }
func (h *health) up() bool  { return h.fails.Load() < maxFails }

// admit reports whether a request may try.
func (h *health) admit() bool {
	if h.up() {
		return true
	}
	last, now := h.probe.Load(), h.now().UnixNano()
	return now-last >= int64(probeEvery) && h.probe.CompareAndSwap(last, now)
}

// settleQueue holds settlements that wait for the database.
type settleQueue struct {
	mu   sync.Mutex
	list []*settlement
	held int           // taken out by a pass under way
	wake chan struct{} // something came in
	pass chan struct{} // a lock that ends with a ctx
}

func (q *settleQueue) init() {
	q.wake, q.pass = make(chan struct{}, 1), make(chan struct{}, 1)
}

func (q *settleQueue) push(s *settlement) {
	q.mu.Lock()
	q.list = append(q.list, s)
	q.mu.Unlock()
	q.wakeUp()
}

func (q *settleQueue) wakeUp() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *settleQueue) take() []*settlement {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	q.list, q.held = nil, len(list)
	return list
}

func (q *settleQueue) restore(list []*settlement) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list, q.held = append(list, q.list...), 0
}

func (q *settleQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list) + q.held
}

func (l *Ledger) runSettles(ctx context.Context) {
	wait := firstBackoff
	for {
		if l.settlePass(ctx) {
			wait = firstBackoff
			select {
			case <-ctx.Done():
				return
			case <-l.settles.wake:
			}
			continue
		}
		if !sleep(ctx, wait) {
			return
		}
		wait = min(wait*2, lastBackoff)
	}
}

// settlePass books all that waits and settles what an earlier boot left. It
// reports whether nothing is left to do.
func (l *Ledger) settlePass(ctx context.Context) bool {
	select {
	case l.settles.pass <- struct{}{}:
		defer func() { <-l.settles.pass }()
	case <-ctx.Done():
		return false
	}
	done := l.bookAll(ctx)
	l.meters.pending.Set(float64(l.settles.len()))
	if l.recoverWanted.Load() {
		if err := l.recover(ctx); err != nil {
			return false
		}
		l.recoverWanted.Store(false)
	}
	return done
}

// bookAll tries each waiting settlement once. An account whose settlement fails
// is left for the next pass, so that a row that somebody holds does not hold up
// the others; after some accounts it is the database itself.
func (l *Ledger) bookAll(ctx context.Context) (done bool) {
	list := l.settles.take()
	failing := map[int64]bool{}
	var left []*settlement
	for i, s := range list {
		if len(failing) >= maxFailing || ctx.Err() != nil {
			left = append(left, list[i:]...)
			break
		}
		if failing[s.req.UserID] {
			left = append(left, s)
			continue
		}
		if err := l.try(ctx, s, backgroundTimeout); err != nil {
			left = append(left, s)
			failing[s.req.UserID] = true
			if s.tries%60 == 3 {
				l.o.Logger.ErrorContext(ctx, "settlement fails", "lease", s.req.LeaseID, "tries", s.tries, "error", err)
			}
		}
	}
	l.settles.restore(left)
	return len(left) == 0
}

// Recover settles what earlier boots of this node left open: the prompt part and
// what the last progress note says is booked, the rest is given back, and the log
// row is flagged as estimated. When the database is away it is done in the
// background as soon as it answers, and nil is returned.
func (l *Ledger) Recover(ctx context.Context) error {
	err := l.recover(ctx)
	if err == nil {
		return nil
	}
	l.recoverWanted.Store(true)
	l.settles.wakeUp()
	if away(err) {
		l.o.Logger.WarnContext(ctx, "open leases of an earlier run are settled later", "error", err)
		return nil
	}
	return err
}

func (l *Ledger) recover(ctx context.Context) error {
	settled := 0
	for {
		tctx, cancel := context.WithTimeout(ctx, 5*backgroundTimeout)
		open, err := l.o.Store.OpenLeases(tctx, l.o.NodeID, l.o.Boot)
		cancel()
		if err != nil {
			return fmt.Errorf("read open leases: %w", err)
		}
		n, err := l.recoverLeases(ctx, open)
		settled += n
		if err != nil {
			return err
		}
		if n == 0 { // nothing left, or nothing that can be settled
			break
		}
	}
	if settled > 0 {
		l.o.Logger.InfoContext(ctx, "settled what an earlier run left open", "leases", settled)
	}
	return nil
}

func (l *Ledger) recoverLeases(ctx context.Context, open []store.Lease) (settled int, err error) {
	for _, x := range open {
		d := decodeDetail(x.Detail)
		tctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
		if d.Channel != 0 { // the last one that was tried
			x.ChannelID = d.Channel
		}
		done, err := l.o.Store.Settle(tctx, store.SettleRequest{LeaseID: x.ID, UserID: x.UserID, TokenID: x.TokenID, ChannelID: x.ChannelID,
			ChargeToken: x.TokenCharged, Granted: x.Granted, Actual: x.Spent, State: store.LeaseSettled, AccessedAt: x.CreatedAt, CountRequest: true})
		cancel()
		switch {
		case err == nil && done:
			settled++
			l.meters.quota.Add(float64(x.Spent))
			l.log(l.recovered(&x, &d))
		case err == nil: // another process was faster
		case away(err) || ctx.Err() != nil:
			return settled, fmt.Errorf("settle lease %s: %w", x.ID, err)
		default: // it must not keep the others open, nor the node from starting
			l.o.Logger.ErrorContext(ctx, "lease of an earlier run stays open", "lease", x.ID, "error", err)
		}
	}
	return settled, nil
}
