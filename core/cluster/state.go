package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

// Source is what the state is read from. *store.Store implements it.
type Source interface {
	Revision(ctx context.Context) (epoch string, rev core.Revision, err error)
	FetchAll(ctx context.Context) (store.FetchResult, error)
	FetchSince(ctx context.Context, rev core.Revision) (store.FetchResult, error)
	CredentialByHash(ctx context.Context, hashes [][]byte) (core.Credential, core.Revision, error)
}

var _ Source = (*store.Store)(nil)

// Options are what a State is made of.
type Options struct {
	Source       Source
	Hashes       func(key string) [][]byte // HMACs of an API key, newest secret first
	Prices       map[string]*core.Price    // the built-in list
	LookInterval time.Duration             // a look starts 0.8 to 1.0 of it after the last one ended
	FullCheck    time.Duration             // how often everything is read and compared; 0 = never
	FetchTimeout time.Duration             // bound of one look; default 5 s
	Tokens       int                       // bound of the credential cache
	Negatives    int                       // bound of the cache of unknown keys
	Logger       *slog.Logger
	Metrics      *telemetry.Metrics
	Now          func() time.Time
}

// State is the node's memory. It is made by New, filled by Start, kept in step
// by Run until its context ends, and read by any number of goroutines.
type State struct {
	o     Options
	snap  atomic.Pointer[core.Snapshot]
	creds *credentials

	look chan struct{} // holds at most one pending trigger

	mu      sync.Mutex // one look at a time
	status  atomic.Pointer[Status]
	applied chan struct{} // closed and replaced whenever a look ended; guarded by waitMu
	waitMu  sync.Mutex
}

// Status tells how fresh the node is.
type Status struct {
	Epoch    string
	Revision core.Revision
	LookedAt time.Time // end of the last look that succeeded
	Err      error     // why the last look failed, nil if it did not
	BadRows  []string  // rows of the applied revision that were left at their last good state
}

// New makes a State without content.
func New(o Options) *State {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LookInterval <= 0 {
		o.LookInterval = time.Second
	}
	if o.FetchTimeout <= 0 {
		o.FetchTimeout = 5 * time.Second
	}
	s := &State{o: o, look: make(chan struct{}, 1), applied: make(chan struct{})}
	s.creds = newCredentials(s)
	s.status.Store(&Status{})
	return s
}

// Snapshot returns the current snapshot; nil before Start succeeded.
func (s *State) Snapshot() *core.Snapshot { return s.snap.Load() }

// Status returns how fresh the node is.
func (s *State) Status() Status { return *s.status.Load() }

// Start makes the first look. Without it there is nothing to serve from.
func (s *State) Start(ctx context.Context) error { return s.lookOnce(ctx) }

// Look asks for a look soon. It never blocks; triggers coalesce.
func (s *State) Look() {
	select {
	case s.look <- struct{}{}:
	default:
	}
}

// Run looks at the revision again and again until ctx ends.
func (s *State) Run(ctx context.Context) {
	defer s.creds.close()
	failing, checked := false, s.o.Now()
	for {
		wait := time.Duration(float64(s.o.LookInterval) * (0.8 + 0.2*rand.Float64()))
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-s.look:
			t.Stop()
		case <-t.C:
		}
		err := s.lookOnce(ctx)
		if err == nil && s.o.FullCheck > 0 && s.o.Now().Sub(checked) >= s.o.FullCheck {
			checked = s.o.Now()
			err = s.compare(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && !failing:
			s.o.Logger.Warn("sync: the database cannot be read; the last good state keeps serving", "error", err, "revision", s.Status().Revision)
		case err == nil && failing:
			s.o.Logger.Info("sync: the database is read again", "revision", s.Status().Revision)
		}
		failing = err != nil
	}
}

// CatchUp returns when revision rev or a later one is applied, looking at once.
func (s *State) CatchUp(ctx context.Context, rev core.Revision) error {
	for {
		s.waitMu.Lock()
		next := s.applied
		s.waitMu.Unlock()
		if s.Status().Revision >= rev {
			return nil
		}
		if s.mu.TryLock() {
			err := s.lookLocked(ctx)
			s.mu.Unlock()
			if err != nil {
				return err
			}
			if s.Status().Revision >= rev {
				return nil
			}
			return fmt.Errorf("revision %d is not in the database, which is at %d", rev, s.Status().Revision)
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *State) lookOnce(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookLocked(ctx)
}

func (s *State) lookLocked(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.FetchTimeout)
	defer cancel()
	err := s.fetch(ctx)
	st := *s.status.Load()
	st.Err = err
	if err == nil {
		st.LookedAt = s.o.Now()
	}
	s.status.Store(&st)
	s.o.Metrics.ConfigRevision.Set(float64(st.Revision))
	s.o.Metrics.SyncLagSeconds.Set(s.lag(st).Seconds())
	s.waitMu.Lock()
	close(s.applied)
	s.applied = make(chan struct{})
	s.waitMu.Unlock()
	return err
}

// Lag is the age of the last look that succeeded.
func (s *State) Lag() time.Duration { return s.lag(s.Status()) }

func (s *State) lag(st Status) time.Duration {
	if st.LookedAt.IsZero() {
		return 0
	}
	return s.o.Now().Sub(st.LookedAt)
}

// compare reads everything and puts right what the change log did not tell: rows
// that were changed by hand. Cached credentials are not part of it.
func (s *State) compare(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.o.FetchTimeout)
	defer cancel()
	res, err := s.o.Source.FetchAll(ctx)
	if err != nil {
		return fmt.Errorf("full check: %w", err)
	}
	old := s.snap.Load()
	if res.Epoch != old.Epoch || res.Rev != old.Revision {
		return nil // the next look is on its way
	}
	keepGood(old, &res.Rows, res.Bad)
	if reflect.DeepEqual(old.Rows, res.Rows) {
		return nil
	}
	snap, err := core.NewSnapshot(res.Rev, res.Epoch, res.Rows, s.o.Prices)
	if err != nil {
		return fmt.Errorf("full check: %w", err)
	}
	s.snap.Store(snap)
	s.o.Logger.Warn("sync: rows differed from the state of the same revision and were taken over; were they changed by hand?", "revision", res.Rev)
	return nil
}

var errRelist = errors.New("relist")

func (s *State) fetch(ctx context.Context) error {
	snap := s.snap.Load()
	if snap == nil {
		return s.relist(ctx, "first look")
	}
	epoch, rev, err := s.o.Source.Revision(ctx)
	if err != nil {
		return fmt.Errorf("read revision: %w", err)
	}
	if epoch == snap.Epoch && rev == snap.Revision {
		return nil
	}
	if epoch != snap.Epoch || rev < snap.Revision {
		return s.relist(ctx, "another epoch, or the revision went back")
	}
	err = s.advance(ctx, snap)
	if errors.Is(err, errRelist) {
		return s.relist(ctx, "gap in the change log")
	}
	return err
}

// advance applies the changes since snap.
func (s *State) advance(ctx context.Context, snap *core.Snapshot) error {
	res, err := s.o.Source.FetchSince(ctx, snap.Revision)
	if err != nil {
		return fmt.Errorf("read changes since %d: %w", snap.Revision, err)
	}
	if res.Epoch != snap.Epoch || res.Rev < snap.Revision || !contiguous(res.Changes, snap.Revision, res.Rev) {
		return errRelist
	}
	rows := copyRows(snap.Rows)
	for _, c := range res.Changes {
		mergeRow(&rows, res.Rows, c)
	}
	return s.apply(snap, res.Epoch, res.Rev, rows, res.Bad, res.Changes)
}

// contiguous reports whether changes cover every revision after from up to to.
func contiguous(changes []core.Change, from, to core.Revision) bool {
	next := from + 1
	for _, c := range changes {
		if c.Rev != next {
			return false
		}
		next++
	}
	return next == to+1
}

func (s *State) relist(ctx context.Context, why string) error {
	res, err := s.o.Source.FetchAll(ctx)
	if err != nil {
		return fmt.Errorf("read everything (%s): %w", why, err)
	}
	if s.snap.Load() != nil {
		s.o.Logger.Warn("sync: everything is read anew", "reason", why, "revision", res.Rev, "epoch", res.Epoch)
	}
	return s.apply(s.snap.Load(), res.Epoch, res.Rev, res.Rows, res.Bad, nil)
}

// apply builds the snapshot aside, drops what changed from the credential cache
// and swaps the pointer. changes == nil means that everything may have changed.
// A bad row stays at its last good state and is reported.
func (s *State) apply(old *core.Snapshot, epoch string, rev core.Revision, rows core.Rows, bad []store.BadRow, changes []core.Change) error {
	// Revocations come first: they hold even when the rest cannot be built.
	s.creds.drop(rev, changes, old != nil)
	badRows := keepGood(old, &rows, bad)
	snap, err := core.NewSnapshot(rev, epoch, rows, s.o.Prices)
	if err != nil {
		if old == nil {
			return fmt.Errorf("build snapshot of revision %d: %w", rev, err)
		}
		// Options that do not parse: everything else of the revision counts.
		badRows = append(badRows, err.Error())
		rows.Options = old.Rows.Options
		if snap, err = core.NewSnapshot(rev, epoch, rows, s.o.Prices); err != nil {
			return fmt.Errorf("build snapshot of revision %d: %w", rev, err)
		}
	}
	s.snap.Store(snap)
	st := *s.status.Load()
	st.Epoch, st.Revision = epoch, rev
	if changes == nil {
		st.BadRows = badRows
	} else if len(badRows) > 0 {
		st.BadRows = append(slices.Clone(st.BadRows), badRows...)
	}
	s.status.Store(&st)
	for _, b := range badRows {
		s.o.Logger.Error("sync: a row is bad; its last good state keeps serving", "row", b, "revision", rev)
	}
	return nil
}

// keepGood puts the last good version in the place of rows that cannot be used.
func keepGood(old *core.Snapshot, rows *core.Rows, bad []store.BadRow) []string {
	var out []string
	for _, b := range bad {
		out = append(out, fmt.Sprintf("%s %s: %v", b.Kind, b.ID, b.Err))
		if old == nil || b.Kind != core.KindChannel {
			continue
		}
		for id, c := range old.Rows.Channels {
			if fmt.Sprint(id) == b.ID {
				rows.Channels[id] = c
			}
		}
	}
	for id, c := range rows.Channels {
		if old != nil && old.Rows.Channels[id] == c {
			continue // prepared before
		}
		if err := c.Prepare(); err != nil {
			out = append(out, fmt.Sprintf("channel %d: %v", id, err))
			delete(rows.Channels, id)
			if old != nil && old.Rows.Channels[id] != nil {
				rows.Channels[id] = old.Rows.Channels[id]
			}
		}
	}
	return out
}

func copyRows(r core.Rows) core.Rows {
	return core.Rows{Channels: maps.Clone(r.Channels), Groups: maps.Clone(r.Groups), Prices: maps.Clone(r.Prices), Options: maps.Clone(r.Options)}
}

// mergeRow takes one changed entity over; an absent row is a deleted one.
func mergeRow(to *core.Rows, from core.Rows, c core.Change) {
	switch c.Kind {
	case core.KindChannel:
		var id int64
		if _, err := fmt.Sscan(c.ID, &id); err == nil {
			replace(to.Channels, from.Channels, id)
		}
	case core.KindGroup:
		replace(to.Groups, from.Groups, c.ID)
	case core.KindPrice:
		replace(to.Prices, from.Prices, c.ID)
	case core.KindOption:
		replace(to.Options, from.Options, c.ID)
	case core.KindToken, core.KindUser, core.KindSession: // not in the snapshot
	}
}

func replace[K comparable, V any](to, from map[K]V, key K) {
	if v, ok := from[key]; ok {
		to[key] = v
		return
	}
	delete(to, key)
}
