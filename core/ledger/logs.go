package ledger

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

const (
	logTimeout   = 10 * time.Second // one batch
	dropLogEvery = time.Minute
	backlogBatch = 4 // times the batch, where the database does not keep up
)

// logEntry is a row of the usage log, complete, or with the facts of which the
// writer makes the rest, away from the request.
type logEntry struct {
	row   core.UsageLog
	facts *facts
}

// logQueue is a ring of rows that wait for the log database. When it is full the
// oldest row makes room.
type logQueue struct {
	mu      sync.Mutex
	ring    []*logEntry
	head, n int
	limit   int
	batch   []core.UsageLog // being written; at most one batch beside the ring
	dropped int64           // since the last word about it
	wake    chan struct{}   // a batch is full
	pass    chan struct{}
}

func (q *logQueue) init(limit int) {
	q.limit = limit
	q.wake, q.pass = make(chan struct{}, 1), make(chan struct{}, 1)
}

func (q *logQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n + len(q.batch)
}

// log appends e, which may be nil. It never blocks on anything but a short lock.
func (l *Ledger) log(e *logEntry) {
	if e == nil {
		return
	}
	batch := l.o.Config().LogBatch
	q := &l.logs
	q.mu.Lock()
	if q.n == q.limit {
		q.ring[q.head] = nil
		q.head = (q.head + 1) % len(q.ring)
		q.n--
		q.dropped++
		l.meters.dropped.Inc()
	}
	if q.n == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.n)%len(q.ring)] = e
	q.n++
	full := q.n >= batch
	n := q.n + len(q.batch)
	q.mu.Unlock()
	l.meters.logs.Set(float64(n))
	if full {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

func (q *logQueue) grow() {
	ring := make([]*logEntry, min(max(2*len(q.ring), 64), q.limit))
	for i := range q.n {
		ring[i] = q.ring[(q.head+i)%len(q.ring)]
	}
	q.ring, q.head = ring, 0
}

// next returns the batch to write: the one that failed before, or a new one. A
// queue that grew meanwhile is written in larger batches, which cost less a row.
func (q *logQueue) next(limit int) []core.UsageLog {
	q.mu.Lock()
	if len(q.batch) > 0 {
		defer q.mu.Unlock()
		return q.batch
	}
	k := max(limit, 1)
	if q.n >= 2*k {
		k *= backlogBatch
	}
	k = min(k, q.n)
	entries := make([]*logEntry, k)
	for i := range entries {
		at := (q.head + i) % len(q.ring)
		entries[i], q.ring[at] = q.ring[at], nil
	}
	if k > 0 {
		q.head = (q.head + k) % len(q.ring)
	}
	q.n -= k
	q.batch = make([]core.UsageLog, k) // counts already while it is rendered
	q.mu.Unlock()
	batch := q.batch
	for i, e := range entries {
		batch[i] = e.render()
	}
	return batch
}

func (q *logQueue) done() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.batch = nil
	if q.n == 0 && len(q.ring) > 4096 { // give the memory of a past outage back
		q.ring, q.head = nil, 0
	}
	return q.n
}

func (l *Ledger) runLogs(ctx context.Context) {
	wait, said := time.Duration(0), time.Time{}
	for {
		cfg := l.o.Config()
		t := time.NewTimer(max(cfg.LogFlushInterval, 10*time.Millisecond, wait))
		wake := l.logs.wake
		if wait > 0 {
			wake = nil // the database is away: a full batch changes nothing
		}
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-wake:
		case <-t.C:
		}
		t.Stop()
		if l.logPass(ctx) {
			wait = 0
		} else {
			wait = min(max(2*wait, firstBackoff), 5*time.Second)
		}
		if now := l.o.Now(); now.Sub(said) >= dropLogEvery && l.sayDropped(ctx) {
			said = now
		}
	}
}

func (l *Ledger) sayDropped(ctx context.Context) bool {
	l.logs.mu.Lock()
	n := l.logs.dropped
	l.logs.dropped = 0
	l.logs.mu.Unlock()
	if n == 0 {
		return false
	}
	l.o.Logger.ErrorContext(ctx, "usage log rows dropped: the log database does not keep up or is away", "rows", n)
	return true
}

// logPass writes all that waits, batch by batch; false when the log database
// does not take it.
func (l *Ledger) logPass(ctx context.Context) bool {
	select {
	case l.logs.pass <- struct{}{}:
		defer func() { <-l.logs.pass }()
	case <-ctx.Done():
		return false
	}
	for {
		batch := l.logs.next(l.o.Config().LogBatch)
		if len(batch) == 0 {
			l.meters.logs.Set(float64(0))
			return true
		}
		if !l.writeLogs(ctx, batch) {
			return false
		}
		l.meters.logs.Set(float64(l.logs.done()))
	}
}

// writeLogs inserts a batch. Where the database refuses it, and not just does not
// answer, the rows go one by one, so that a bad one takes no other with it. A
// batch whose commit was not answered is written again: a row may then be there
// twice.
func (l *Ledger) writeLogs(ctx context.Context, batch []core.UsageLog) bool {
	insert := func(rows []core.UsageLog) error {
		tctx, cancel := context.WithTimeout(ctx, logTimeout)
		defer cancel()
		return l.o.Store.InsertLogs(tctx, rows)
	}
	err := insert(batch)
	if err == nil {
		return true
	}
	if core.IsCode(err, core.CodeStoreUnavailable) || ctx.Err() != nil {
		return false
	}
	for i := range batch {
		err := insert(batch[i : i+1])
		switch {
		case err == nil:
		case core.IsCode(err, core.CodeStoreUnavailable) || ctx.Err() != nil:
			l.logs.mu.Lock()
			l.logs.batch = batch[i:]
			l.logs.mu.Unlock()
			return false
		default:
			l.meters.dropped.Inc()
			l.o.Logger.ErrorContext(ctx, "usage log row refused", "request_id", batch[i].RequestID, "error", err)
		}
	}
	return true
}
