package ledger

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

// hang is a database that takes the statement and never answers.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return core.WrapError(core.CodeStoreUnavailable, ctx.Err(), "away")
}

func TestReserveGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var canceled kept[string]
		var away atomic.Bool
		away.Store(true)
		f := &fakeStore{}
		f.reserve = func(ctx context.Context, l store.Lease, _ int64, _ bool) (int64, error) { return 0, hang(ctx) }
		f.cancel = func(ctx context.Context, l store.Lease) error {
			if away.Load() {
				return hang(ctx)
			}
			canceled.add(l.ID)
			return nil
		}
		r := newRig(t, f, nil)
		start := time.Now()
		_, err := r.Reserve(t.Context(), r.request(1))
		var e *core.Error
		if !errors.As(err, &e) || e.Code != core.CodeStoreUnavailable || e.RetryAfter <= 0 {
			t.Fatalf("%v", err)
		}
		if took := time.Since(start); took > 300*time.Millisecond {
			t.Fatalf("took %s", took)
		}
		// The outcome is unclear: it is undone once the database answers.
		time.Sleep(10 * time.Second)
		if len(canceled.all()) != 0 || r.settles.len() != 1 {
			t.Fatal("canceled while away", canceled.all(), r.settles.len())
		}
		away.Store(false)
		time.Sleep(5 * time.Second)
		if len(canceled.all()) != 1 || r.settles.len() != 0 {
			t.Fatal(canceled.all(), r.settles.len())
		}
		r.stop()
	})
}

// Requests that wait for the same account fail with the first one, not one after
// another, and other accounts do not wait at all.
func TestQueueFailsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{}
		f.reserve = func(ctx context.Context, l store.Lease, _ int64, _ bool) (int64, error) {
			if l.UserID == 1 {
				return 0, hang(ctx)
			}
			return l.Granted, nil
		}
		f.cancel = func(ctx context.Context, l store.Lease) error { return hang(ctx) }
		r := newRig(t, f, nil)
		start := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := r.Reserve(context.Background(), r.request(1)); !core.IsCode(err, core.CodeStoreUnavailable) {
					t.Errorf("%v", err)
				}
				if took := time.Since(start); took > 300*time.Millisecond {
					t.Errorf("took %s", took)
				}
			})
		}
		wg.Go(func() {
			if _, err := r.Reserve(context.Background(), r.request(2)); err != nil || time.Since(start) > 0 {
				t.Errorf("another account: %v after %s", err, time.Since(start))
			}
		})
		wg.Wait()
		r.stop()
	})
}

// A queue that moves is not a database that is away, however long it is.
func TestLongQueueIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{}
		var inside atomic.Int32
		f.reserve = func(ctx context.Context, l store.Lease, _ int64, _ bool) (int64, error) {
			if inside.Add(1) > 1 {
				t.Error("two transactions of one account at once")
			}
			defer inside.Add(-1)
			time.Sleep(5 * time.Millisecond)
			return l.Granted, nil
		}
		r := newRig(t, f, nil)
		start := time.Now()
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if _, err := r.Reserve(context.Background(), r.request(1)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %s", took)
		}
		r.stop()
	})
}

func TestLaneGivesTheTurnOnWhenAClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newLanes()
		if err := q.enter(t.Context(), 1, time.Second); err != nil {
			t.Fatal(err)
		}
		gone, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := q.enter(gone, 1, time.Hour); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		var second error
		wg.Go(func() {
			if second = q.enter(t.Context(), 1, time.Hour); second == nil {
				q.leave(1, through)
			}
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		q.leave(1, through)
		wg.Wait()
		if second != nil || len(q.busy) != 0 {
			t.Fatal(second, q.busy)
		}
		// Nobody gets through: those who wait give up by themselves.
		if err := q.enter(t.Context(), 1, time.Second); err != nil {
			t.Fatal(err)
		}
		if err := q.enter(t.Context(), 1, time.Second); !errors.Is(err, errStalled) {
			t.Fatal(err)
		}
	})
}

// While the database is surely away, requests fail at once but for probes.
func TestOutageFailsFastAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{}
		var asked atomic.Int64
		var away atomic.Bool
		away.Store(true)
		f.reserve = func(ctx context.Context, l store.Lease, _ int64, _ bool) (int64, error) {
			asked.Add(1)
			if away.Load() {
				return 0, hang(ctx)
			}
			return l.Granted, nil
		}
		f.cancel = func(ctx context.Context, l store.Lease) error {
			if away.Load() {
				return errAway
			}
			return nil
		}
		r := newRig(t, f, nil)
		for i := range int64(10) {
			_, _ = r.Reserve(t.Context(), r.request(i)) // to become sure
		}
		asked.Store(0)
		var fast int
		for range 1000 { // a request each millisecond
			var done atomic.Bool
			go func() {
				if _, err := r.Reserve(context.Background(), r.request(99)); err == nil {
					t.Error("let in")
				}
				done.Store(true)
			}()
			time.Sleep(time.Millisecond)
			if done.Load() {
				fast++
			}
		}
		if n := asked.Load(); n > 15 || fast < 900 {
			t.Fatalf("%d asked the database, %d failed at once", n, fast)
		}
		away.Store(false)
		time.Sleep(2 * time.Second) // what is unclear is undone, and that is an answer
		if _, err := r.Reserve(t.Context(), r.request(1)); err != nil {
			t.Fatal(err)
		}
		r.stop()
	})
}

func TestSettlementIsBookedOnceAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{}
		state := map[string]string{}
		var booked atomic.Int64
		var mode atomic.Value
		mode.Store("away")
		f.settle = func(ctx context.Context, q store.SettleRequest) (bool, error) {
			switch mode.Load() {
			case "hang":
				return false, hang(ctx)
			case "away":
				return false, errAway
			case "committed": // and the answer is lost
				state[q.LeaseID] = q.State
				booked.Add(q.Actual)
				mode.Store("well")
				return false, hang(ctx)
			}
			if state[q.LeaseID] != "" {
				return false, nil
			}
			state[q.LeaseID] = q.State
			booked.Add(q.Actual)
			return true, nil
		}
		var rows kept[core.UsageLog]
		f.insert = func(_ context.Context, list []core.UsageLog) error { rows.add(list...); return nil }
		r := newRig(t, f, nil)
		res, err := r.Reserve(t.Context(), r.request(1))
		if err != nil {
			t.Fatal(err)
		}
		mode.Store("hang")
		start := time.Now()
		if c := r.Settle(t.Context(), res, used(30)); c.Quota != 30 {
			t.Fatalf("%+v", c)
		}
		if took := time.Since(start); took > 600*time.Millisecond {
			t.Fatalf("the end of the answer waited %s", took)
		}
		time.Sleep(10 * time.Second)
		if len(rows.all()) != 0 {
			t.Fatal("a row before the booking")
		}
		mode.Store("committed")
		time.Sleep(10 * time.Second)
		if got := rows.all(); booked.Load() != 30 || r.settles.len() != 0 || len(got) != 1 || got[0].Quota != 30 {
			t.Fatalf("booked %d, %d wait, rows %+v", booked.Load(), r.settles.len(), got)
		}
		r.stop()
	})
}

// One account whose row is held does not hold up the settlements of others.
func TestOneBadAccountDoesNotBlockTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{}
		var done kept[int64]
		var away atomic.Bool
		away.Store(true)
		f.settle = func(ctx context.Context, q store.SettleRequest) (bool, error) {
			if away.Load() || q.UserID == 1 {
				return false, errAway
			}
			done.add(q.UserID)
			return true, nil
		}
		r := newRig(t, f, nil)
		for user := range int64(5) {
			for range 3 {
				res, err := r.Reserve(t.Context(), r.request(user))
				if err != nil {
					t.Fatal(err)
				}
				r.Refund(t.Context(), res, core.Outcome{})
			}
		}
		away.Store(false)
		time.Sleep(3 * time.Second)
		if len(done.all()) != 12 || r.settles.len() != 3 {
			t.Fatal(done.all(), r.settles.len())
		}
		r.stop()
	})
}

func TestCloseTriesUntilItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{settle: func(context.Context, store.SettleRequest) (bool, error) { return false, errAway },
			insert: func(context.Context, []core.UsageLog) error { return errAway }}
		r := newRig(t, f, nil)
		res, err := r.Reserve(t.Context(), r.request(1))
		if err != nil {
			t.Fatal(err)
		}
		r.Settle(t.Context(), res, used(1))
		r.Append(core.UsageLog{Type: core.LogSystem})
		r.stop() // Close works without Run
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var left *UnwrittenError
		if err := r.Close(ctx); !errors.As(err, &left) || left.Settlements != 1 || left.Logs != 1 {
			t.Fatalf("%v", err)
		}

		var logged atomic.Int64
		f = &fakeStore{insert: func(_ context.Context, rows []core.UsageLog) error { logged.Add(int64(len(rows))); return nil }}
		r = newRig(t, f, nil)
		res, err = r.Reserve(t.Context(), r.request(1))
		if err != nil {
			t.Fatal(err)
		}
		r.Settle(t.Context(), res, used(1))
		for range 95 {
			r.Append(core.UsageLog{Type: core.LogSystem})
		}
		if err := r.Close(t.Context()); err != nil || logged.Load() != 96 {
			t.Fatal(err, logged.Load())
		}
		r.stop() // Run ended with Close
	})
}

// A lease that somebody else closed has its row from there. One that a try of
// our own closed, whose answer was lost, has none yet.
func TestRowOfALeaseThatIsNotOpen(t *testing.T) {
	for name, c := range map[string]struct {
		first error
		rows  int64
	}{"closed by another": {nil, 0}, "closed by the first try": {errAway, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tries, logged atomic.Int64
				f := &fakeStore{insert: func(_ context.Context, rows []core.UsageLog) error { logged.Add(int64(len(rows))); return nil },
					settle: func(context.Context, store.SettleRequest) (bool, error) {
						if tries.Add(1) == 1 {
							return false, c.first
						}
						return false, nil
					}}
				r := newRig(t, f, nil)
				res, err := r.Reserve(t.Context(), r.request(1))
				if err != nil {
					t.Fatal(err)
				}
				r.Settle(t.Context(), res, used(1))
				if err := r.Close(t.Context()); err != nil || logged.Load() != c.rows {
					t.Fatal(err, logged.Load())
				}
			})
		})
	}
}

func TestRecoverWaitsForTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		away.Store(true)
		var left kept[store.Lease]
		left.add([]store.Lease{{ID: "x", UserID: 1, Granted: 100, Spent: 40, Detail: `{"user":"u","channel":3}`}, {ID: "bad", UserID: 2, Granted: 5, Spent: 1, Detail: "{"}}...)
		var got kept[store.SettleRequest]
		f := &fakeStore{}
		f.open = func(_ context.Context, node, notBoot string) ([]store.Lease, error) {
			if away.Load() {
				return nil, errAway
			}
			if node != "n" || notBoot != "b" {
				t.Error(node, notBoot)
			}
			return left.all(), nil
		}
		f.settle = func(_ context.Context, q store.SettleRequest) (bool, error) {
			if q.LeaseID == "bad" {
				return false, errors.New("no such column")
			}
			got.add(q)
			rest := left.all()[1:]
			left.reset()
			left.add(rest...)
			return true, nil
		}
		r := newRig(t, f, nil)
		if err := r.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if len(got.all()) != 0 {
			t.Fatal(got.all())
		}
		away.Store(false)
		time.Sleep(5 * time.Second)
		if g := got.all(); len(g) != 1 || g[0].Actual != 40 || g[0].State != store.LeaseSettled || g[0].ChannelID != 3 || !g[0].CountRequest {
			t.Fatalf("%+v", g)
		}
		r.stop()
	})
}
