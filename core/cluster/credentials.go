package cluster

import (
	"context"
	"crypto/sha256"
	"strconv"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"github.com/sluice-gateway/sluice/core"
)

type keyHash [sha256.Size]byte

// credentials is the bounded cache of tokens with their users, keyed by the
// HMAC of the API key. Entries have no age: they are dropped by the change log
// and served stale while the database is away.
//
// A fill is bound to the revision of the consistent read that it came from. drop
// notes the newest revision that touched a credential; a fill that is older than
// that is read again instead of stored, so that a revoked key never comes back.
type credentials struct {
	s       *State
	known   *otter.Cache[keyHash, core.Credential]
	unknown *otter.Cache[keyHash, struct{}]
	flight  singleflight.Group
	slots   chan struct{} // bounds fills under way, so that a flood of unknown keys cannot take the whole pool

	mu      sync.Mutex
	touched core.Revision                  // newest applied revision that touched a token or user
	relists uint64                         // a fill that began before the last relist is void: revisions may have started anew
	byToken map[int64]map[keyHash]struct{} // what to drop for a token …
	byUser  map[int64]map[keyHash]struct{} // … and for a user

	beforeStore func() // tests pause a fill here
}

const (
	fillSlots   = 32
	fillTimeout = 2 * time.Second
	fillRetries = 5
)

var _ core.TokenSource = (*State)(nil)

func newCredentials(s *State) *credentials {
	c := &credentials{s: s, slots: make(chan struct{}, fillSlots), byToken: map[int64]map[keyHash]struct{}{}, byUser: map[int64]map[keyHash]struct{}{}}
	c.known = otter.Must(&otter.Options[keyHash, core.Credential]{
		MaximumSize: max(s.o.Tokens, 16),
		OnDeletion: func(e otter.DeletionEvent[keyHash, core.Credential]) {
			if e.Cause == otter.CauseOverflow {
				c.forget(e.Key, e.Value)
			}
		},
	})
	c.unknown = otter.Must(&otter.Options[keyHash, struct{}]{
		MaximumSize:      max(s.o.Negatives, 16),
		ExpiryCalculator: otter.ExpiryWriting[keyHash, struct{}](time.Minute),
	})
	return c
}

func (c *credentials) close() {
	c.known.StopAllGoroutines()
	c.unknown.StopAllGoroutines()
}

// Lookup finds the credential of an API key; see core.TokenSource.
func (s *State) Lookup(ctx context.Context, key string) (core.Credential, error) {
	hashes := s.o.Hashes(key)
	var h keyHash
	copy(h[:], hashes[0])
	if cred, ok := s.creds.known.GetIfPresent(h); ok {
		s.o.Metrics.CacheHits.WithLabelValues("token").Inc()
		return cred, nil
	}
	if _, ok := s.creds.unknown.GetIfPresent(h); ok {
		s.o.Metrics.CacheHits.WithLabelValues("token_unknown").Inc()
		return core.Credential{}, errUnknownKey()
	}
	s.o.Metrics.CacheMisses.WithLabelValues("token").Inc()
	return s.creds.fill(ctx, h, hashes)
}

func errUnknownKey() error {
	return core.Errorf(core.CodeUnauthorized, "Invalid API key. Check the key, or create one in the console under Tokens.")
}

// fill reads a credential once for all who wait for it. The read goes on when
// the first of them leaves.
func (c *credentials) fill(ctx context.Context, h keyHash, hashes [][]byte) (core.Credential, error) {
	ch := c.flight.DoChan(string(h[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fillTimeout)
		defer cancel()
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			return nil, &core.Error{Code: core.CodeStoreUnavailable, Message: "The key could not be checked in time. Try again.", RetryAfter: time.Second, Err: ctx.Err()}
		}
		return c.read(ctx, h, hashes)
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return core.Credential{}, r.Err
		}
		return r.Val.(core.Credential), nil
	case <-ctx.Done():
		return core.Credential{}, ctx.Err()
	}
}

func (c *credentials) read(ctx context.Context, h keyHash, hashes [][]byte) (core.Credential, error) {
	for range fillRetries {
		c.mu.Lock()
		relists := c.relists
		c.mu.Unlock()
		cred, rev, err := c.s.o.Source.CredentialByHash(ctx, hashes)
		missing := core.IsCode(err, core.CodeNotFound)
		if err != nil && !missing {
			return cred, err
		}
		if !missing {
			cred.Token.Prepare()
			// Secrets have no business in a cache.
			u := *cred.User
			u.PasswordHash = ""
			cred.User = &u
		}
		if rev > c.s.Status().Revision {
			// The credential is newer than the routing state: look first, so that
			// nobody acts on a token whose channels and groups are not here yet.
			if err := c.s.CatchUp(ctx, rev); err != nil {
				c.s.o.Logger.Warn("sync: a credential is newer than the state, which cannot be read", "error", err)
			}
		}
		if c.beforeStore != nil {
			c.beforeStore()
		}
		if !c.put(h, cred, rev, relists, missing) {
			continue
		}
		if missing {
			return cred, errUnknownKey()
		}
		return cred, nil
	}
	return core.Credential{}, &core.Error{Code: core.CodeStoreUnavailable, Message: "The key is being changed. Try again.", RetryAfter: time.Second}
}

// put stores a fill, unless something that is newer than it was applied meanwhile.
func (c *credentials) put(h keyHash, cred core.Credential, rev core.Revision, relists uint64, missing bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rev < c.touched || relists != c.relists {
		return false
	}
	if missing {
		c.unknown.Set(h, struct{}{})
		return true
	}
	link(c.byToken, cred.Token.ID, h)
	link(c.byUser, cred.User.ID, h)
	c.known.Set(h, cred)
	return true
}

// drop removes what changes touched. changes == nil with all drops everything.
func (c *credentials) drop(rev core.Revision, changes []core.Change, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if changes == nil {
		if all {
			// After a restored dump revisions start again below.
			c.touched = rev
			c.relists++
			c.known.InvalidateAll()
			c.unknown.InvalidateAll()
			clear(c.byToken)
			clear(c.byUser)
		}
		return
	}
	for _, ch := range changes {
		var m map[int64]map[keyHash]struct{}
		switch ch.Kind {
		case core.KindToken:
			m = c.byToken
			c.unknown.InvalidateAll()
		case core.KindUser:
			m = c.byUser
		default:
			continue
		}
		c.touched = max(c.touched, ch.Rev)
		id, err := strconv.ParseInt(ch.ID, 10, 64)
		if err != nil {
			continue
		}
		for h := range m[id] {
			if cred, ok := c.known.GetIfPresent(h); ok {
				c.unlink(h, cred)
			}
			c.known.Invalidate(h)
		}
		delete(m, id)
	}
}

// forget cleans the index after an eviction. The entry may be back by then.
func (c *credentials) forget(h keyHash, cred core.Credential) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known.GetEntryQuietly(h); !ok {
		c.unlink(h, cred)
	}
}

func (c *credentials) unlink(h keyHash, cred core.Credential) {
	unlink(c.byToken, cred.Token.ID, h)
	unlink(c.byUser, cred.User.ID, h)
}

func link(m map[int64]map[keyHash]struct{}, id int64, h keyHash) {
	set := m[id]
	if set == nil {
		set = map[keyHash]struct{}{}
		m[id] = set
	}
	set[h] = struct{}{}
}

func unlink(m map[int64]map[keyHash]struct{}, id int64, h keyHash) {
	delete(m[id], h)
	if len(m[id]) == 0 {
		delete(m, id)
	}
}
