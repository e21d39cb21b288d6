package inmem

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

// buckets is how many parts a window is cut into. An event counts until the
// window has passed it by whole parts, so it is remembered for between 1 and
// 1+1/buckets windows: never less, so a limit is never exceeded in any window.
const buckets = 16

// shards divide the keys, so that callers of different keys do not wait for
// each other.
const shards = 32

// Options are what Counters are made of.
type Options struct {
	MaxKeys int              // keys in memory at once; 0 = 65,536
	Now     func() time.Time // 0 = time.Now
}

// Counters are sliding windows in memory. The cost of a key is fixed, whatever
// its limit, and the number of keys is bounded: where the bound is reached, an
// idle key goes first, else the one that was used longest ago among a few.
type Counters struct {
	now   func() time.Time
	seed  maphash.Seed
	max   int // keys in a shard
	shard [shards]shard
}

var _ core.Counters = (*Counters)(nil)

type shard struct {
	mu   sync.Mutex
	keys map[string]*window
}

// window counts the events of one key by parts of its length.
type window struct {
	length time.Duration
	last   int64 // number of the newest part since 1970
	used   time.Time
	total  int64
	counts [buckets]int64
}

// NewCounters makes empty counters.
func NewCounters(o Options) *Counters {
	if o.MaxKeys <= 0 {
		o.MaxKeys = 1 << 16
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Counters{now: o.Now, seed: maphash.MakeSeed(), max: max(o.MaxKeys/shards, 1)}
	for i := range c.shard {
		c.shard[i].keys = map[string]*window{}
	}
	return c
}

// Take implements core.Counters. An event over the limit is not counted, so that
// a client that keeps knocking gets in again. It never fails.
func (c *Counters) Take(_ context.Context, key string, limit int64, length time.Duration) (core.CounterResult, error) {
	if limit <= 0 || length <= 0 {
		return core.CounterResult{RetryAfter: max(length, 0)}, nil
	}
	now := c.now()
	s := &c.shard[maphash.String(c.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.keys[key]
	if w == nil || w.length != length {
		if w == nil && len(s.keys) >= c.max {
			s.evict(now)
		}
		w = &window{length: length, last: part(now, length)}
		s.keys[key] = w
	}
	w.advance(now)
	w.used = now
	if w.total >= limit {
		return core.CounterResult{RetryAfter: w.next(now, limit)}, nil
	}
	w.counts[w.last%buckets]++
	w.total++
	return core.CounterResult{Allowed: true, Remaining: limit - w.total}, nil
}

// part is the number of the part of a window's length that t lies in.
func part(t time.Time, length time.Duration) int64 { return t.UnixNano() / step(length) }

// step is the length of one part, rounded up; the ring holds the running part
// and those that the window still reaches into.
func step(length time.Duration) int64 {
	n := int64(length)
	return (n + buckets - 2) / (buckets - 1)
}

// advance forgets the parts that lie wholly before the window.
func (w *window) advance(now time.Time) {
	p := part(now, w.length)
	if p <= w.last { // the clock went back: the newest part goes on
		return
	}
	if p-w.last >= buckets {
		w.counts, w.total = [buckets]int64{}, 0
		w.last = p
		return
	}
	for w.last < p {
		w.last++
		w.total -= w.counts[w.last%buckets]
		w.counts[w.last%buckets] = 0
	}
}

// next is how long it takes until so many parts are forgotten that one more
// event is within limit.
func (w *window) next(now time.Time, limit int64) time.Duration {
	left := w.total
	for oldest := w.last - buckets + 1; oldest <= w.last; oldest++ {
		left -= w.counts[((oldest%buckets)+buckets)%buckets]
		if left < limit {
			free := (oldest + buckets) * step(w.length)
			return max(time.Duration(free-now.UnixNano()), time.Millisecond)
		}
	}
	return w.length
}

// evict makes room for one key. Map order is random, so looking at a few keys
// is a fair draw.
func (s *shard) evict(now time.Time) {
	const looks = 16
	var oldest string
	var at time.Time
	n := 0
	for key, w := range s.keys {
		if now.Sub(w.used) > w.length*2 {
			delete(s.keys, key)
			return
		}
		if n == 0 || w.used.Before(at) {
			oldest, at = key, w.used
		}
		if n++; n >= looks {
			break
		}
	}
	delete(s.keys, oldest)
}

// Len is the number of keys in memory.
func (c *Counters) Len() int {
	n := 0
	for i := range c.shard {
		c.shard[i].mu.Lock()
		n += len(c.shard[i].keys)
		c.shard[i].mu.Unlock()
	}
	return n
}
