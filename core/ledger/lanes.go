package ledger

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// maxLane bounds how many transactions of one account wait.
const maxLane = 10_000

var (
	errStalled = errors.New("the database makes no progress")
	errCrowded = errors.New("too many requests of this account wait for the database")
)

// lanes let one transaction of an account at a time into the database: there they
// would wait for the same row lock, hold a connection each, and time out though
// all is well. Waiting here costs nothing, and others are not held up. Who waits
// is let in first come first served, and given up once nobody of the lane got
// through for the stall time.
type lanes struct {
	mu   sync.Mutex
	busy map[int64]*lane
}

type lane struct {
	waiting list.List // of *waiter
	last    time.Time // when somebody got through
}

type waiter struct {
	turn  chan error // capacity 1: nil = go
	given bool       // something was sent on turn; guarded by lanes.mu
}

// passage is how a transaction went.
type passage int

const (
	through passage = iota // the database answered, whatever it said
	stalled                // it did not
)

func newLanes() *lanes { return &lanes{busy: map[int64]*lane{}} }

// enter waits for the lane of key. After nil, leave must be called.
func (q *lanes) enter(ctx context.Context, key int64, stall time.Duration) error {
	q.mu.Lock()
	ln := q.busy[key]
	if ln == nil {
		q.busy[key] = &lane{}
		q.mu.Unlock()
		return nil
	}
	if ln.waiting.Len() >= maxLane {
		q.mu.Unlock()
		return errCrowded
	}
	w := &waiter{turn: make(chan error, 1)}
	e := ln.waiting.PushBack(w)
	since := time.Now()
	q.mu.Unlock()

	timer := time.NewTimer(stall)
	defer timer.Stop()
	for {
		select {
		case err := <-w.turn:
			return err
		case <-ctx.Done():
			if !q.drop(ln, e) {
				if err := <-w.turn; err == nil { // the turn came at the same moment: pass it on
					q.leave(key, through)
				}
			}
			return ctx.Err()
		case <-timer.C:
			q.mu.Lock()
			if ln.last.After(since) {
				since = ln.last
			}
			rest := stall - time.Since(since)
			q.mu.Unlock()
			if rest > 0 {
				timer.Reset(rest)
				continue
			}
			if !q.drop(ln, e) {
				return <-w.turn
			}
			return errStalled
		}
	}
}

// drop takes e out of the queue; false means that its turn was given already.
func (q *lanes) drop(ln *lane, e *list.Element) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.Value.(*waiter).given {
		return false
	}
	ln.waiting.Remove(e)
	return true
}

// leave ends a passage. A stall is told to all who wait, so that none of them
// waits for the same dead database one after another.
func (q *lanes) leave(key int64, how passage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ln := q.busy[key]
	if ln == nil {
		return
	}
	if how == stalled {
		for e := ln.waiting.Front(); e != nil; e = e.Next() {
			e.Value.(*waiter).give(errStalled)
		}
		ln.waiting.Init()
		delete(q.busy, key)
		return
	}
	ln.last = time.Now()
	front := ln.waiting.Front()
	if front == nil {
		delete(q.busy, key)
		return
	}
	ln.waiting.Remove(front)
	front.Value.(*waiter).give(nil)
}

func (w *waiter) give(err error) {
	w.given = true
	w.turn <- err
}
