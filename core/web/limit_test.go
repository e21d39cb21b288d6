package web

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
)

// brokenCounters are shared counters whose server is away.
type brokenCounters struct{ hang bool }

func (b brokenCounters) Take(ctx context.Context, _ string, _ int64, _ time.Duration) (core.CounterResult, error) {
	if b.hang {
		<-ctx.Done()
	}
	return core.CounterResult{}, errors.New("connection refused")
}

func TestRateLimits(t *testing.T) {
	x := newSite(t)
	u := x.addUser("alice", core.RoleAdmin)
	x.accessToken(u, "bearer-of-alice-0000000000000000")
	limits := config.RateLimit{
		GlobalAPI: config.Limit{Enabled: true, Limit: 6, Window: time.Minute},
		GlobalWeb: config.Limit{Enabled: true, Limit: 2, Window: time.Minute},
		Critical:  config.Limit{Enabled: true, Limit: 3, Window: 20 * time.Minute},
		Search:    config.Limit{Enabled: true, Limit: 1, Window: time.Minute},
	}
	agentAt := func(n int) *agent {
		a := x.as("bearer-of-alice-0000000000000000")
		a.ip = fmt.Sprintf("198.51.100.%d:1", n)
		return a
	}
	for i, c := range []struct {
		method, path string
		allowed      int
		retry        time.Duration
	}{
		{"GET", "/api/notice", 6, time.Minute},
		{"GET", "/api/nowhere", 6, time.Minute},
		{"GET", self, 6, time.Minute},
		{"GET", "/dashboard/billing/usage", 6, time.Minute},
		{"POST", "/api/user/login", 3, 20 * time.Minute},
		{"GET", "/api/usage/token/", 3, 20 * time.Minute},
		{"GET", "/", 2, time.Minute},
		{"GET", "/api/user/search", 1, time.Minute},
	} {
		t.Run(c.path, func(t *testing.T) {
			x.cfg.RateLimit = limits
			a := agentAt(i + 1)
			for n := range c.allowed {
				if r := a.do(c.method, c.path, "{}"); r.status == 429 {
					t.Fatalf("call %d of %d: %s", n+1, c.allowed, r.body)
				}
			}
			r := a.do(c.method, c.path, "{}")
			h := r.res.Header
			var retry int
			_, _ = fmt.Sscan(h.Get("Retry-After"), &retry)
			if r.status != 429 || time.Duration(retry)*time.Second > c.retry*17/15+time.Second || retry < 1 || h.Get("X-RateLimit-Limit") != fmt.Sprint(c.allowed) || h.Get("X-RateLimit-Remaining") != "0" || h.Get("X-RateLimit-Reset") == "" {
				t.Errorf("%d %s %v", r.status, r.body, h)
			}
			if c.path != "/api/user/search" { // that one is by user
				if r := agentAt(100+i).do(c.method, c.path, "{}"); r.status == 429 {
					t.Error("another address is limited as well")
				}
			}
			x.advance(c.retry * 17 / 15)
			if r := a.do(c.method, c.path, "{}"); r.status == 429 {
				t.Error("still limited after the window")
			}
		})
	}
	t.Run("probes, status and relay are free", func(t *testing.T) {
		a := agentAt(50)
		for _, path := range []string{"/api/status", "/livez", "/readyz", "/v1/models"} {
			for range 20 {
				if r := a.do("GET", path, ""); r.status == 429 {
					t.Fatalf("%s is limited", path)
				}
			}
		}
	})
	t.Run("off", func(t *testing.T) {
		x.cfg.RateLimit = config.RateLimit{}
		a := agentAt(51)
		for range 20 {
			if r := a.do("GET", "/api/notice", ""); r.status != 200 {
				t.Fatal(r.body)
			}
		}
	})
}

// Counters that fail cost neither an error nor the limit: the node counts alone.
func TestRateLimitsWithoutCounters(t *testing.T) {
	for name, counters := range map[string]brokenCounters{"refused": {}, "hanging": {hang: true}} {
		t.Run(name, func(t *testing.T) {
			x := newSite(t, func(o *Options) { o.Counters = counters })
			x.cfg.RateLimit.GlobalAPI = config.Limit{Enabled: true, Limit: 3, Window: time.Minute}
			var got []int
			for range 4 {
				got = append(got, x.guest().do("GET", "/api/notice", "").status)
			}
			if fmt.Sprint(got) != "[200 200 200 429]" {
				t.Errorf("%v", got)
			}
		})
	}
}
