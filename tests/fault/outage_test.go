package fault

import (
	"context"
	"flag"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

var outage = flag.Duration("outage", 4*time.Second, "how long the database is away; 60s is the promise")

// refuseBound is the promise for a priced request while the database is away;
// the test gives it five times that.
const refuseBound = 300 * time.Millisecond

// The database stops answering under load (SIGSTOP: connections hang), or dies
// and comes back. Known tokens stay known, what is free is served, what costs is
// refused in time without a call to upstream, and nobody has to restart anything.
func TestDatabaseAway(t *testing.T) {
	for _, how := range []string{"hangs", "dies"} {
		t.Run(how, func(t *testing.T) {
			db := harness.StartMariaDB(t)
			s := newSite(t, harness.MySQLEnv(db.NewDatabase(t)))
			key, left := s.account("client", 100_000_000, 100_000_000, "user")
			free := []byte(`{"model":"free","messages":[{"role":"user","content":"Hello"}],"max_tokens":10}`)
			for _, body := range [][]byte{free, unitBody(100)} { // the token becomes known
				if a, err := post(s.node.URL, key, "/v1/chat/completions", body); err != nil || a.status != http.StatusOK {
					t.Fatalf("before: %v %d %s", err, a.status, a.body)
				}
			}
			if how == "hangs" {
				db.Pause()
			} else {
				db.Kill()
			}
			upstreamBefore := s.fake.Stats().Calls
			load(t, s, key, free)
			if n := s.fake.Stats().Calls - upstreamBefore; n > 0 {
				t.Errorf("%d priced requests reached upstream without a reservation", n)
			}
			if how == "hangs" {
				db.Resume()
			} else {
				db.Restart(t)
			}
			began := time.Now()
			eventually(t, 30*time.Second, "priced requests are answered again", func() bool {
				a, err := post(s.node.URL, key, "/v1/chat/completions", unitBody(100))
				return err == nil && a.status == http.StatusOK
			})
			t.Logf("priced requests again %s after the database", time.Since(began).Round(time.Millisecond))
			s.root.Option("RetryTimes", 1)
			// Nothing leaked: what was reserved and refused is back.
			eventually(t, 30*time.Second, "the balance is whole", func() bool {
				quota, used := left()
				return quota+used == 100_000_000
			})
		})
	}
}

// load sends free and priced requests and a management write for as long as the
// database is away.
func load(t *testing.T, s *site, key string, free []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *outage)
	defer cancel()
	var wg sync.WaitGroup
	var served, refused, slowest atomic.Int64
	each := func(fn func()) {
		wg.Go(func() {
			for ctx.Err() == nil {
				fn()
			}
		})
	}
	for range 4 {
		each(func() {
			a, err := post(s.node.URL, key, "/v1/chat/completions", free)
			if err != nil || a.status != http.StatusOK {
				t.Errorf("free model: %v %d %s", err, a.status, a.body)
				cancel()
				return
			}
			served.Add(1)
		})
		each(func() {
			began := time.Now()
			a, err := post(s.node.URL, key, "/v1/chat/completions", unitBody(100))
			took := time.Since(began)
			if err != nil || a.status != http.StatusServiceUnavailable || a.retryAfter == "" || a.code != "database_unavailable" {
				t.Errorf("priced model: %v %d %q %s", err, a.status, a.retryAfter, a.body)
				cancel()
				return
			}
			for {
				old := slowest.Load()
				if int64(took) <= old || slowest.CompareAndSwap(old, int64(took)) {
					break
				}
			}
			refused.Add(1)
		})
	}
	each(func() {
		req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, s.node.URL+"/v1/models", nil)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("/v1/models: %d", resp.StatusCode)
			cancel()
		}
	})
	each(func() {
		r := s.root.Do(http.MethodPut, "/api/option/", map[string]any{"key": "RetryTimes", "value": 1})
		if r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
			t.Errorf("management write: %d %s", r.Status, r.Raw)
			cancel()
		}
	})
	each(func() {
		if r := s.root.Do(http.MethodGet, "/api/status", nil); r.Status != http.StatusOK || !r.Success {
			t.Errorf("/api/status: %d %s", r.Status, r.Raw)
			cancel()
		}
	})
	wg.Wait()
	t.Logf("away for %s: %d free requests served, %d priced ones refused, the slowest after %s", *outage, served.Load(), refused.Load(), time.Duration(slowest.Load()).Round(time.Millisecond))
	if served.Load() == 0 || refused.Load() == 0 {
		t.Error("no load")
	}
	if d := time.Duration(slowest.Load()); d > 5*refuseBound {
		t.Errorf("a priced request was refused after %s; the bound is %s", d, refuseBound)
	}
}
