package inmem_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/inmem"
)

// clock is a time that tests move.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func take(t *testing.T, c *inmem.Counters, key string, limit int64, window time.Duration) core.CounterResult {
	t.Helper()
	res, err := c.Take(context.Background(), key, limit, window)
	if err != nil {
		t.Fatalf("Take: %v", err)
	}
	return res
}

func TestTake(t *testing.T) {
	clk := newClock()
	c := inmem.NewCounters(inmem.Options{Now: clk.now})
	for i := range int64(3) {
		res := take(t, c, "a", 3, time.Minute)
		if !res.Allowed || res.Remaining != 2-i {
			t.Fatalf("take %d: %+v", i, res)
		}
	}
	res := take(t, c, "a", 3, time.Minute)
	if res.Allowed || res.Remaining != 0 || res.RetryAfter <= 0 || res.RetryAfter > time.Minute*17/15 {
		t.Fatalf("over the limit: %+v", res)
	}
	if !take(t, c, "b", 3, time.Minute).Allowed {
		t.Fatal("another key is limited")
	}
	clk.advance(res.RetryAfter)
	if !take(t, c, "a", 3, time.Minute).Allowed {
		t.Fatal("refused at the time that RetryAfter named")
	}
}

func TestTakeNothingAllowed(t *testing.T) {
	c := inmem.NewCounters(inmem.Options{})
	for _, limit := range []int64{0, -1} {
		if take(t, c, "a", limit, time.Minute).Allowed {
			t.Errorf("limit %d allows an event", limit)
		}
	}
	if c.Len() != 0 {
		t.Error("a key without a limit takes memory")
	}
}

// In every window of the length, at most limit events are let in; and an event
// is let in again no later than 17/15 of the window after the one it waits for.
func TestWindowIsNeverExceeded(t *testing.T) {
	const limit = 20
	for _, window := range []time.Duration{time.Second, 7 * time.Second, 3 * time.Minute, 1200 * time.Second, 16, 1} {
		t.Run(window.String(), func(t *testing.T) {
			clk := newClock()
			c := inmem.NewCounters(inmem.Options{Now: clk.now})
			rnd := rand.New(rand.NewPCG(1, 2))
			var in []time.Time
			for range 5000 {
				clk.advance(time.Duration(rnd.Int64N(int64(window)/limit + 1)))
				res := take(t, c, "a", limit, window)
				now := clk.now()
				if !res.Allowed {
					if len(in) < limit {
						t.Fatal("refused before the limit was reached")
					}
					if oldest := in[len(in)-limit]; window > 1000 && now.Sub(oldest) > window*17/15 {
						t.Fatalf("refused although the event that counts most lies %s back", now.Sub(oldest))
					}
					continue
				}
				in = append(in, now)
				if n := len(in); n > limit && now.Sub(in[n-1-limit]) < window {
					t.Fatalf("%d events within %s", limit+1, now.Sub(in[n-1-limit]))
				}
			}
		})
	}
}

func TestRefusedEventsDoNotCount(t *testing.T) {
	clk := newClock()
	c := inmem.NewCounters(inmem.Options{Now: clk.now})
	take(t, c, "a", 1, time.Minute)
	for range 200 {
		clk.advance(400 * time.Millisecond)
		if res := take(t, c, "a", 1, time.Minute); res.Allowed {
			return
		}
	}
	t.Fatal("a client that keeps knocking never gets in again")
}

func TestClockGoesBack(t *testing.T) {
	clk := newClock()
	c := inmem.NewCounters(inmem.Options{Now: clk.now})
	take(t, c, "a", 2, time.Minute)
	clk.advance(-time.Hour)
	if !take(t, c, "a", 2, time.Minute).Allowed || take(t, c, "a", 2, time.Minute).Allowed {
		t.Fatal("the count was lost or doubled")
	}
}

func TestWindowOfAKeyChanges(t *testing.T) {
	clk := newClock()
	c := inmem.NewCounters(inmem.Options{Now: clk.now})
	take(t, c, "a", 1, time.Minute)
	if !take(t, c, "a", 1, time.Hour).Allowed {
		t.Fatal("a new configuration starts with old counts of another length")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	clk := newClock()
	c := inmem.NewCounters(inmem.Options{Now: clk.now, MaxKeys: 1024})
	for i := range 20_000 {
		clk.advance(time.Millisecond)
		take(t, c, fmt.Sprint(i), 5, time.Minute)
	}
	if n := c.Len(); n > 1024 {
		t.Fatalf("%d keys", n)
	}
}

func TestParallel(t *testing.T) {
	clk := newClock()
	c := inmem.NewCounters(inmem.Options{Now: clk.now, MaxKeys: 1 << 14})
	var in atomic.Int64
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 500 {
				if res, _ := c.Take(context.Background(), "hot", 100, time.Hour); res.Allowed {
					in.Add(1)
				}
				_, _ = c.Take(context.Background(), fmt.Sprint(g, i%10), 100, time.Hour)
			}
		})
	}
	wg.Wait()
	if n := in.Load(); n != 100 {
		t.Fatalf("%d events of 100 let in", n)
	}
}

func BenchmarkTake(b *testing.B) {
	c := inmem.NewCounters(inmem.Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = c.Take(context.Background(), "web:api:192.0.2.1", 1<<40, time.Minute)
		}
	})
}
