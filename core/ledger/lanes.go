package ledger

import (
	"container/list"
	"context"
	"errors"
	"fmt"
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
//
// Times are counted in slices, each of which ends when this process gets to
// notice it: on a busy machine, where an answer would be noticed late as well, a
// slice lasts longer, so that load of our own is not taken for a dead database.
type lanes struct {
	mu   sync.Mutex
	busy map[int64]*lane
}

type lane struct {
	waiting list.List // of *waiter
	passed  int       // how many got through
}

// timeSlices is into how many parts a waiting time is cut.
const timeSlices = 10

// errNoAnswer is why a transaction was broken off.
var errNoAnswer = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)

// patience is a context that ends after timeout, counted in slices.
func patience(parent context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	var mu sync.Mutex
	var timer *time.Timer
	left := timeSlices
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(timeout/timeSlices, func() {
		mu.Lock()
		defer mu.Unlock()
		switch left--; {
		case left > 0:
			timer.Reset(timeout / timeSlices)
		case left == 0:
			cancel(errNoAnswer)
		}
	})
	return ctx, func() {
		mu.Lock()
		left = 0
		timer.Stop()
		mu.Unlock()
		cancel(nil)
	}
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
	passed, idle := ln.passed, 0
	q.mu.Unlock()

	timer := time.NewTimer(stall / timeSlices)
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
			timer.Reset(stall / timeSlices)
			q.mu.Lock()
			if idle++; ln.passed != passed {
				passed, idle = ln.passed, 0
			}
			q.mu.Unlock()
			if idle < timeSlices {
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
	ln.passed++
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
