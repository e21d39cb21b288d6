package ledger

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/ledger/ledgertest"
	"github.com/sluice-gateway/sluice/core/store"
	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, db *harness.Database) *store.Store {
	t.Helper()
	keys, err := store.NewKeyring(core.Secret("a secret for these tests only"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{DSN: db.NewDatabase(t), Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOnMariaDB(t *testing.T) {
	db := harness.MariaDB(t)
	ledgertest.Run(t, func(t *testing.T) *store.Store { return open(t, db) })
}

// The server stops in its tracks under load: reservations fail soon, what is
// running is booked once it goes on, and nothing leaks.
func TestPausedMariaDB(t *testing.T) {
	db := harness.StartMariaDB(t)
	outage(t, db, db.Pause, db.Resume)
}

// The server is killed under load and started again.
func TestKilledMariaDB(t *testing.T) {
	db := harness.StartMariaDB(t)
	outage(t, db, db.Kill, func() { db.Restart(t) })
}

func outage(t *testing.T, db *harness.Database, away, back func()) {
	w := ledgertest.New(t, open(t, db), 1_000_000, 1_000_000)
	var running []*core.Reservation
	for range 20 {
		running = append(running, w.Reserve("m", 10, 90))
	}
	// Load on the account while the server goes.
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				r, err := w.Ledger.Reserve(ctx, w.Request("m", 10, 90))
				switch {
				case err == nil:
					w.Ledger.Refund(ctx, r, core.Outcome{})
				case ctx.Err() == nil && !core.IsCode(err, core.CodeStoreUnavailable):
					t.Errorf("refused with %v", err)
				}
			}
		})
	}
	<-time.After(300 * time.Millisecond)
	away()
	<-time.After(300 * time.Millisecond)

	var slowest time.Duration
	for range 20 {
		start := time.Now()
		_, err := w.Ledger.Reserve(t.Context(), w.Request("m", 10, 90))
		slowest = max(slowest, time.Since(start))
		if e := core.AsError(err); e.Code != core.CodeStoreUnavailable || e.RetryAfter <= 0 {
			t.Fatalf("reserved from a server that is away: %v", err)
		}
	}
	t.Logf("refused in %s at most", slowest.Round(time.Microsecond))
	if slowest > time.Second { // 250 ms, and what a busy machine adds
		t.Errorf("a refusal took %s", slowest)
	}
	free := w.Reserve("free", 10, 90) // not held up
	w.Settle(free, 10, 10)
	for _, r := range running {
		if q := w.Settle(r, 10, 20); q != 30 {
			t.Fatalf("charged %d", q)
		}
	}
	stop()
	load.Wait()
	back()

	start := time.Now()
	ledgertest.Eventually(t, "it serves again", func() bool {
		r, err := w.Ledger.Reserve(t.Context(), w.Request("m", 10, 90))
		if err == nil {
			w.Ledger.Refund(t.Context(), r, core.Outcome{})
		}
		return err == nil
	})
	t.Logf("served again after %s", time.Since(start).Round(time.Millisecond))
	ledgertest.Eventually(t, "all is booked and nothing is open", func() bool {
		x := w.Totals()
		return x.Open == 0 && x.Used == 600
	})
	w.Expect(1_000_000-600, 0, 600)
	w.ExpectToken(1_000_000-600, 600)
	if err := w.Ledger.Close(t.Context()); err != nil { // what came late would show now
		t.Fatal(err)
	}
	w.Expect(1_000_000-600, 0, 600)
}
