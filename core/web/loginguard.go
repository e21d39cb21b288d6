package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

// Only failures count, in three windows: one account from one address, one
// account from anywhere, one address for any account. The second does not hold
// for an address where the account is logged in: strangers do not lock an owner
// out.
const (
	failWindow      = 10 * time.Minute
	failPair        = 10
	failAccount     = 50
	failAddress     = 50
	failBlock       = 5 * time.Minute
	maxBlocked      = 10_000
	blockedPrefix   = "login:"
	accountIDPrefix = "u:"
)

// loginGuard throttles guesses of passwords and bounds how many are hashed at
// once. Failures are counted by the shared counters; what is blocked, each node
// knows for itself and learns with its first failure.
type loginGuard struct {
	s      *Server
	hashes *hashSlots

	mu    sync.Mutex
	until map[string]time.Time // bounded by maxBlocked
}

func newLoginGuard(s *Server) *loginGuard {
	return &loginGuard{s: s, hashes: newHashSlots(), until: map[string]time.Time{}}
}

// accountByID and accountByName name an account in the counters. A name that
// nobody has is counted as well, so that it looks like one that somebody has.
func accountByID(id int64) string { return accountIDPrefix + strconv.FormatInt(id, 10) }

func accountByName(name string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(name)))
	return "n:" + hex.EncodeToString(sum[:12])
}

type failKey struct {
	key   string
	limit int64
}

func failKeys(account, address string) []failKey {
	return []failKey{
		{blockedPrefix + account + "@" + address, failPair},
		{blockedPrefix + account, failAccount},
		{blockedPrefix + "@" + address, failAddress},
	}
}

// verify compares a password for an account, within the throttle. The block is
// looked at again once a hashing slot is free: of a burst, only as many get
// through as are hashed at once.
func (g *loginGuard) verify(c *call, account string, stored, password core.Secret) (ok, stale bool, err error) {
	keys := failKeys(account, addressKey(c.ip))
	if err := g.blocked(keys); err != nil {
		if !g.atHome(c, account) {
			return false, false, err
		}
		keys = slices.Delete(keys, 1, 2) // all but the account from anywhere
		if err := g.blocked(keys); err != nil {
			return false, false, err
		}
	}
	var inner error
	err = g.hashes.run(c.ctx(), func() {
		if inner = g.blocked(keys); inner != nil {
			return
		}
		if ok, stale = verifyPassword(stored, password); !ok {
			g.failed(c.ctx(), keys)
		}
	})
	if err == nil {
		err = inner
	}
	return ok, stale, err
}

// atHome reports whether the account has a living session from the caller's
// address. Without an answer of the database it has none.
func (g *loginGuard) atHome(c *call, account string) bool {
	text, ok := strings.CutPrefix(account, accountIDPrefix)
	id, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil {
		return false
	}
	has, err := g.s.o.Store.HasSessionFrom(c.ctx(), id, c.ip.String())
	return err == nil && has
}

func (g *loginGuard) blocked(keys []failKey) error {
	now := g.s.o.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range keys {
		if until, ok := g.until[k.key]; ok && now.Before(until) {
			e := core.Errorf(core.CodeRateLimited, "too many failed log-ins; try again in %d seconds", int64(until.Sub(now)/time.Second)+1)
			e.RetryAfter = until.Sub(now)
			return e
		}
	}
	return nil
}

// failed counts a failure and blocks what has reached its limit.
func (g *loginGuard) failed(ctx context.Context, keys []failKey) {
	for _, k := range keys {
		if res := g.s.count(ctx, k.key, k.limit, failWindow); !res.Allowed || res.Remaining == 0 {
			g.block(k.key)
		}
	}
}

func (g *loginGuard) block(key string) {
	now := g.s.o.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.until) >= maxBlocked {
		g.shrink(now)
	}
	g.until[key] = now.Add(failBlock)
}

// shrink forgets what is over; where nothing is, any one goes.
func (g *loginGuard) shrink(now time.Time) {
	var one string
	for key, until := range g.until {
		if !now.Before(until) {
			delete(g.until, key)
		}
		one = key
	}
	if len(g.until) >= maxBlocked {
		delete(g.until, one)
	}
}
