package ledger

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

// maxCounters bounds the accounts whose counters wait for the database.
const maxCounters = 100_000

// counterBook counts free requests until they are written: they move no money,
// so they neither wait for the database nor need to survive a crash.
type counterBook struct {
	mu   sync.Mutex
	open map[counterKey]counter
	held int
	pass chan struct{}
}

type counterKey struct{ user, token int64 }

type counter struct {
	requests int64
	at       time.Time
}

func (b *counterBook) init() {
	b.open = map[counterKey]counter{}
	b.pass = make(chan struct{}, 1)
}

func (b *counterBook) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open) + b.held
}

func (b *counterBook) put(k counterKey, c counter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, ok := b.open[k]
	if !ok && len(b.open) >= maxCounters {
		return
	}
	if old.at.After(c.at) {
		c.at = old.at
	}
	c.requests += old.requests
	b.open[k] = c
}

func (l *Ledger) countFree(r *core.Reservation) {
	k := counterKey{user: r.Request.User.ID}
	if r.Request.Token != nil {
		k.token = r.Request.Token.ID
	}
	l.counts.put(k, counter{requests: 1, at: l.o.Now()})
}

func (l *Ledger) runCounts(ctx context.Context) {
	for sleep(ctx, max(l.o.Config().LogFlushInterval, 10*time.Millisecond)) {
		l.countPass(ctx)
	}
}

// countPass writes what was counted; what fails is counted again later.
func (l *Ledger) countPass(ctx context.Context) {
	select {
	case l.counts.pass <- struct{}{}:
		defer func() { <-l.counts.pass }()
	case <-ctx.Done():
		return
	}
	l.counts.mu.Lock()
	list := l.counts.open
	l.counts.open, l.counts.held = map[counterKey]counter{}, len(list)
	l.counts.mu.Unlock()
	away := false
	for k, c := range list {
		if !away {
			tctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
			var err error
			for ; c.requests > 0 && err == nil; c.requests-- {
				_, err = l.o.Store.Settle(tctx, store.SettleRequest{UserID: k.user, TokenID: k.token, AccessedAt: c.at, CountRequest: true})
			}
			cancel()
			if err == nil {
				continue
			}
			c.requests++
			away = core.IsCode(err, core.CodeStoreUnavailable) || ctx.Err() != nil
			if !away { // an account that is gone: nothing to count on
				l.o.Logger.WarnContext(ctx, "free requests not counted", "user", k.user, "error", err)
				continue
			}
		}
		l.counts.put(k, c)
	}
	l.counts.mu.Lock()
	l.counts.held = 0
	l.counts.mu.Unlock()
}
