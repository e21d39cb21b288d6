package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table is a database in memory: revisioned rows, a change log, credentials.
type table struct {
	mu     sync.Mutex
	epoch  string
	rev    core.Revision
	log    []core.Change
	rows   core.Rows
	bad    []store.BadRow
	creds  map[string]core.Credential // by key
	down   error
	reads  int
	gapped bool
}

func newTable() *table {
	return &table{epoch: "e1", rev: 1, creds: map[string]core.Credential{}, rows: core.Rows{
		Channels: map[int64]*core.Channel{}, Groups: map[string]*core.Group{}, Prices: map[string]*core.Price{}, Options: map[string]string{},
	}}
}

func (d *table) change(kind core.Kind, id string, fn func()) core.Revision {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn()
	d.rev++
	d.log = append(d.log, core.Change{Rev: d.rev, Kind: kind, ID: id, Op: core.OpPut})
	return d.rev
}

func (d *table) Revision(context.Context) (string, core.Revision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.epoch, d.rev, d.down
}

func (d *table) all() store.FetchResult {
	return store.FetchResult{Epoch: d.epoch, Rev: d.rev, Rows: copyRows(d.rows), Bad: d.bad}
}

func (d *table) FetchAll(context.Context) (store.FetchResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all(), d.down
}

func (d *table) FetchSince(_ context.Context, rev core.Revision) (store.FetchResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	res := d.all()
	for _, c := range d.log {
		if c.Rev > rev && !(d.gapped && c.Rev == rev+1) {
			res.Changes = append(res.Changes, c)
		}
	}
	return res, d.down
}

func (d *table) CredentialByHash(_ context.Context, hashes [][]byte) (core.Credential, core.Revision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads++
	if d.down != nil {
		return core.Credential{}, 0, d.down
	}
	for key, c := range d.creds {
		h := sha256.Sum256([]byte(key))
		if string(h[:]) == string(hashes[0]) {
			t := *c.Token
			return core.Credential{Token: &t, User: c.User}, d.rev, nil
		}
	}
	return core.Credential{}, d.rev, core.Errorf(core.CodeNotFound, "no such key")
}

func (d *table) addKey(key string, id int64) {
	d.change(core.KindToken, strconv.FormatInt(id, 10), func() {
		d.creds[key] = core.Credential{Token: &core.Token{ID: id, UserID: id, Status: core.TokenEnabled}, User: &core.User{ID: id, PasswordHash: "planted"}}
	})
}

func (d *table) removeKey(key string, id int64) {
	d.change(core.KindToken, strconv.FormatInt(id, 10), func() { delete(d.creds, key) })
}

func newState(t *testing.T, d *table) *State {
	t.Helper()
	s := New(Options{
		Source: d, Hashes: func(key string) [][]byte { h := sha256.Sum256([]byte(key)); return [][]byte{h[:]} },
		Tokens: 100, Negatives: 100, LookInterval: 10 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: telemetry.NewMetrics(prometheus.NewRegistry()),
	})
	t.Cleanup(s.creds.close)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (d *table) putChannel(id int64, model string) core.Revision {
	return d.change(core.KindChannel, fmt.Sprint(id), func() {
		d.rows.Channels[id] = &core.Channel{ID: id, Status: core.ChannelEnabled, Models: []string{model}, Groups: []string{"default"}}
	})
}

func TestChangesAreApplied(t *testing.T) {
	d := newTable()
	s := newState(t, d)
	rev := d.putChannel(1, "m")
	first := s.Snapshot()
	if err := s.CatchUp(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if s.Snapshot() == first || len(s.Snapshot().Candidates("default", "m")) != 1 || len(first.Channels) != 0 {
		t.Fatal("the new snapshot lacks the channel, or the old one changed")
	}
	rev = d.change(core.KindChannel, "1", func() { delete(d.rows.Channels, 1) })
	if err := s.CatchUp(t.Context(), rev); err != nil || s.Snapshot().HasModel("m") {
		t.Fatalf("a deleted channel is still there: %v", err)
	}
	if err := s.CatchUp(t.Context(), rev+5); err == nil {
		t.Fatal("caught up with a revision that does not exist")
	}
}

func TestRelist(t *testing.T) {
	for name, prepare := range map[string]func(d *table){
		"gap":        func(d *table) { d.gapped = true },
		"new epoch":  func(d *table) { d.epoch = "e2" },
		"went back":  func(d *table) { d.rev = 1 },
		"log is cut": func(d *table) { d.log = nil; d.rev += 10 },
	} {
		t.Run(name, func(t *testing.T) {
			d := newTable()
			s := newState(t, d)
			d.addKey("k", 7)
			if err := s.CatchUp(t.Context(), d.putChannel(1, "m")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Lookup(t.Context(), "k"); err != nil {
				t.Fatal(err)
			}
			d.mu.Lock()
			maps.DeleteFunc(d.rows.Channels, func(int64, *core.Channel) bool { return true })
			delete(d.creds, "k")
			d.rev += 2
			d.log = append(d.log, core.Change{Rev: d.rev - 1, Kind: core.KindOption, ID: "x"}, core.Change{Rev: d.rev, Kind: core.KindOption, ID: "y"})
			prepare(d)
			d.mu.Unlock()
			if err := s.lookOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s.Snapshot().HasModel("m") || s.Status().Revision != d.rev {
				t.Errorf("no relist: revision %d of %d", s.Status().Revision, d.rev)
			}
			if _, err := s.Lookup(t.Context(), "k"); !core.IsCode(err, core.CodeUnauthorized) {
				t.Errorf("the cached key outlived the relist: %v", err)
			}
		})
	}
}

func TestFailureKeepsTheLastGoodState(t *testing.T) {
	d := newTable()
	s := newState(t, d)
	d.addKey("k", 7)
	if err := s.CatchUp(t.Context(), d.putChannel(1, "m")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.down = &core.Error{Code: core.CodeStoreUnavailable, Message: "gone"}
	d.mu.Unlock()
	if err := s.lookOnce(t.Context()); err == nil {
		t.Fatal("no error from a database that is down")
	}
	if !s.Snapshot().HasModel("m") {
		t.Error("a failed look emptied the state")
	}
	if _, err := s.Lookup(t.Context(), "k"); err != nil {
		t.Errorf("a known key is refused: %v", err)
	}
	if _, err := s.Lookup(t.Context(), "other"); !core.IsCode(err, core.CodeStoreUnavailable) {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestBadRows(t *testing.T) {
	d := newTable()
	s := newState(t, d)
	if err := s.CatchUp(t.Context(), d.putChannel(1, "m")); err != nil {
		t.Fatal(err)
	}
	d.addKey("k", 7)
	if _, err := s.Lookup(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	d.removeKey("k", 7)
	d.change(core.KindOption, "RetryTimes", func() { d.rows.Options["RetryTimes"] = "many" })
	rev := d.change(core.KindChannel, "1", func() {
		d.rows.Channels[1] = &core.Channel{ID: 1, Status: core.ChannelEnabled, Models: []string{"n"}, Groups: []string{"default"}, ModelMapping: "{"}
	})
	if err := s.CatchUp(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if !s.Snapshot().HasModel("m") || s.Snapshot().HasModel("n") {
		t.Error("the bad channel did not stay at its last good state")
	}
	if len(s.Status().BadRows) != 2 {
		t.Errorf("bad rows: %q", s.Status().BadRows)
	}
	if _, err := s.Lookup(t.Context(), "k"); !core.IsCode(err, core.CodeUnauthorized) {
		t.Errorf("a bad row kept a revocation back: %v", err)
	}
}

// A fill that was read before a revocation and is stored after it must not let
// the key back in.
func TestRevokedDuringFill(t *testing.T) {
	d := newTable()
	s := newState(t, d)
	d.addKey("k", 7)
	if err := s.CatchUp(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	paused, resume := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.creds.beforeStore = func() {
		once.Do(func() { close(paused); <-resume })
	}
	got := make(chan error, 1)
	go func() {
		_, err := s.Lookup(context.Background(), "k")
		got <- err
	}()
	<-paused
	d.removeKey("k", 7)
	if err := s.CatchUp(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	close(resume)
	if err := <-got; !core.IsCode(err, core.CodeUnauthorized) {
		t.Errorf("the paused fill let the key in: %v", err)
	}
	if _, err := s.Lookup(t.Context(), "k"); !core.IsCode(err, core.CodeUnauthorized) {
		t.Errorf("the paused fill put the key back: %v", err)
	}
}

func TestNegativeEntries(t *testing.T) {
	d := newTable()
	s := newState(t, d)
	for range 3 {
		if _, err := s.Lookup(t.Context(), "k"); !core.IsCode(err, core.CodeUnauthorized) {
			t.Fatal(err)
		}
	}
	if d.reads != 1 {
		t.Errorf("%d reads for an unknown key", d.reads)
	}
	d.addKey("k", 7)
	if err := s.CatchUp(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	cred, err := s.Lookup(t.Context(), "k")
	if err != nil {
		t.Fatalf("a new key is refused by an old negative entry: %v", err)
	}
	if cred.User.PasswordHash != "" {
		t.Error("a password hash is in the cache")
	}
}

func TestUserChangeDropsTokens(t *testing.T) {
	d := newTable()
	s := newState(t, d)
	d.addKey("k", 7)
	if _, err := s.Lookup(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	rev := d.change(core.KindUser, "7", func() {
		c := d.creds["k"]
		u := *c.User
		u.Status = core.UserDisabled
		d.creds["k"] = core.Credential{Token: c.Token, User: &u}
	})
	if err := s.CatchUp(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	cred, err := s.Lookup(t.Context(), "k")
	if err != nil || cred.User.Status != core.UserDisabled {
		t.Errorf("%+v %v", cred.User, err)
	}
}

func TestSingleFlight(t *testing.T) {
	d := newTable()
	s := newState(t, d)
	d.addKey("k", 7)
	release := make(chan struct{})
	s.creds.beforeStore = func() { <-release }
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := s.Lookup(context.Background(), "k"); err != nil {
				t.Error(err)
			}
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Lookup(gone, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who left: %v", err)
	}
	close(release)
	wg.Wait()
	if d.reads > 2 {
		t.Errorf("%d reads for one key", d.reads)
	}
}

func TestEvictionCleansTheIndex(t *testing.T) {
	d := newTable()
	s := newState(t, d)
	for i := range 2000 {
		d.addKey(fmt.Sprint("k", i), int64(i+1))
	}
	if err := s.lookOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		if _, err := s.Lookup(t.Context(), fmt.Sprint("k", i)); err != nil {
			t.Fatal(err)
		}
	}
	s.creds.known.CleanUp()
	eventually(t, func() bool {
		s.creds.mu.Lock()
		defer s.creds.mu.Unlock()
		return len(s.creds.byToken) <= 200 && len(s.creds.byUser) <= 200
	})
}

func TestRunPicksUpChanges(t *testing.T) {
	d := newTable()
	s := newState(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	d.putChannel(1, "m")
	eventually(t, func() bool { return s.Snapshot().HasModel("m") })
	cancel()
	<-done
}

func TestFullCheckFindsHandMadeChanges(t *testing.T) {
	d := newTable()
	s := newState(t, d)
	d.addKey("k", 7)
	if err := s.CatchUp(t.Context(), d.putChannel(1, "m")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	same := s.Snapshot()
	if err := s.compare(t.Context()); err != nil || s.Snapshot() != same {
		t.Fatalf("equal rows led to another snapshot: %v", err)
	}
	d.mu.Lock()
	d.rows.Channels[1] = &core.Channel{ID: 1, Status: core.ChannelEnabled, Models: []string{"n"}, Groups: []string{"default"}}
	d.mu.Unlock()
	if err := s.compare(t.Context()); err != nil || !s.Snapshot().HasModel("n") || s.Snapshot().HasModel("m") {
		t.Fatalf("a change by hand was not found: %v", err)
	}
	if _, ok := s.creds.known.GetIfPresent(keyHash(sha256.Sum256([]byte("k")))); !ok {
		t.Error("the check dropped the credentials")
	}
}

func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); {
		if time.Now().After(end) {
			t.Fatal("did not come true in 10 s")
		}
		<-time.After(2 * time.Millisecond)
	}
}
