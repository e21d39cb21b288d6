package web

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
)

// limitAddress counts a request in the limits that go by address.
func (s *Server) limitAddress(c *call) error {
	limits := s.o.Config().RateLimit
	key := addressKey(c.ip)
	switch c.route.limit {
	case limitNone:
		return nil
	case limitWeb:
		return s.take(c, "web", key, limits.GlobalWeb)
	case limitCritical:
		if err := s.take(c, "api", key, limits.GlobalAPI); err != nil {
			return err
		}
		return s.take(c, "critical", key, limits.Critical)
	}
	return s.take(c, "api", key, limits.GlobalAPI)
}

// limitUser counts a search for its user.
func (s *Server) limitUser(c *call) error {
	if c.route.limit != limitSearch || c.user == nil {
		return nil
	}
	return s.take(c, "search", strconv.FormatInt(c.user.ID, 10), s.o.Config().RateLimit.Search)
}

// take counts one event and says in the reply's headers how many are left.
func (s *Server) take(c *call, name, key string, limit config.Limit) error {
	if !limit.Enabled {
		return nil
	}
	res := s.count(c.ctx(), "web:"+name+":"+key, limit.Limit, limit.Window)
	h := c.w.Header()
	h.Set("X-RateLimit-Limit", strconv.FormatInt(limit.Limit, 10))
	h.Set("X-RateLimit-Remaining", strconv.FormatInt(res.Remaining, 10))
	if res.Allowed {
		return nil
	}
	h.Set("X-RateLimit-Reset", strconv.FormatInt(s.o.Now().Add(res.RetryAfter).Unix(), 10))
	if s.o.Metrics != nil {
		s.o.Metrics.RateLimited.WithLabelValues(name).Inc()
	}
	e := core.Errorf(core.CodeRateLimited, "too many requests; try again in %d seconds", int64((res.RetryAfter+time.Second-1)/time.Second))
	e.RetryAfter = max(res.RetryAfter, time.Second)
	return e
}

// countTimeout bounds a look at shared counters: a limit must not cost more
// than the request.
const countTimeout = 250 * time.Millisecond

// countPause is how long counters that failed are left alone, so that not every
// request waits for them.
const countPause = time.Second

// count asks the shared counters, or this node's own while those fail: a limit
// is then by node, and never an error.
func (s *Server) count(ctx context.Context, key string, limit int64, window time.Duration) core.CounterResult {
	if s.o.Now().UnixNano() < s.countAlone.Load() {
		return s.countHere(ctx, key, limit, window)
	}
	tctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	res, err := s.o.Counters.Take(tctx, key, limit, window)
	if err == nil {
		return res
	}
	s.o.Logger.Warn("counters failed; this node counts alone", "error", err)
	s.countAlone.Store(s.o.Now().Add(countPause).UnixNano())
	return s.countHere(ctx, key, limit, window)
}

func (s *Server) countHere(ctx context.Context, key string, limit int64, window time.Duration) core.CounterResult {
	res, err := s.fallback.Take(ctx, key, limit, window)
	if err != nil {
		return core.CounterResult{Allowed: true}
	}
	return res
}

// addressKey is what is counted as one client: an IPv4 address, or the /64 that
// one IPv6 customer has.
func addressKey(ip netip.Addr) string {
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
