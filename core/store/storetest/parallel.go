package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func contextWithPastDeadline(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
}

func contextCanceled(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx, cancel
}

// together runs fn n times at once.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	wg.Wait()
}

// testParallelUpdates: with many writers, revisions have no gap, and one who
// polls "after the last I saw" misses none.
func testParallelUpdates(t *testing.T, e *env) {
	ctx := within(t, 2*time.Minute)
	const writers, each = 16, 15
	seen := map[core.Revision]core.Change{}
	done := make(chan struct{})
	var polled sync.WaitGroup
	polled.Go(func() {
		var last core.Revision
		for finished := false; ; {
			r, err := e.s.FetchSince(ctx, last)
			if err != nil {
				t.Error(err)
				return
			}
			for _, c := range r.Changes {
				seen[c.Rev] = c
				last = c.Rev
			}
			if r.Rev != last {
				t.Errorf("revision %d, and the log ends at %d", r.Rev, last)
				return
			}
			if finished && len(r.Changes) == 0 {
				return
			}
			select {
			case <-done:
				finished = true
			default:
			}
		}
	})
	var failed atomic.Int64
	together(writers, func(i int) {
		for j := range each {
			_, err := e.s.Update(ctx, actor, func(tx *store.Tx) error {
				err := tx.PutOption(ctx, fmt.Sprintf("w%d.%d", i, j), "x")
				if err == nil && j%3 == 0 { // a row that all of them want, and more than one change
					err = tx.PutOption(ctx, "shared", fmt.Sprintf("%d.%d", i, j))
				}
				return err
			})
			if err != nil {
				failed.Add(1)
				t.Error(err)
			}
		}
	})
	close(done)
	polled.Wait()
	want := writers * (each + (each+2)/3)
	_, rev, err := e.s.Revision(ctx)
	must(t, err)
	equal(t, "last revision", int(rev), want)
	equal(t, "seen by the poller", len(seen), want)
	equal(t, "lines of the log", e.number(t, "SELECT COUNT(*) FROM sluice_sync_log"), int64(want))
	equal(t, "rows of the audit log", e.number(t, "SELECT COUNT(*) FROM sluice_audit_logs"), int64(want))
	for r := core.Revision(1); int(r) <= want; r++ {
		if _, ok := seen[r]; !ok {
			t.Fatalf("revision %d was never seen", r)
		}
	}
	equal(t, "rows", e.number(t, "SELECT COUNT(*) FROM sluice_options"), writers*each+1)
}

// testParallelReserves: 50 at once on a balance for exactly 10.
func testParallelReserves(t *testing.T, e *env) {
	ctx := within(t, time.Minute)
	for _, charge := range []bool{false, true} {
		u := e.user(t, fmt.Sprintf("u%v", charge), 1000)
		tok, _ := e.token(t, u.ID, 700)
		quota := int64(1000)
		if charge {
			quota = 700
		}
		var ok, short, other atomic.Int64
		together(50, func(i int) {
			granted, err := e.s.Reserve(ctx, store.Lease{ID: fmt.Sprintf("%v-%d", charge, i), UserID: u.ID, TokenID: tok.ID, Granted: quota / 10}, quota/10, charge)
			switch {
			case err == nil && granted == quota/10:
				ok.Add(1)
			case core.IsCode(err, core.CodeUserQuota) || core.IsCode(err, core.CodeTokenQuota):
				short.Add(1)
			default:
				other.Add(1)
				t.Errorf("granted %d, %v", granted, err)
			}
		})
		equal(t, "granted", ok.Load(), 10)
		equal(t, "refused", short.Load(), 40)
		x := e.totals(t, u.ID)
		equal(t, "open", x.Open, quota)
		equal(t, "left", x.Available, 1000-quota)
		if charge {
			equal(t, "left on token", x.Tokens[0].Remain, 0)
		}
	}
}

// testParallelSettles: one of many books.
func testParallelSettles(t *testing.T, e *env) {
	ctx := within(t, time.Minute)
	u := e.user(t, "bob", 1000)
	tok, _ := e.token(t, u.ID, 1000)
	ch := e.channel(t, core.Channel{})
	_, err := e.s.Reserve(ctx, store.Lease{ID: "l", UserID: u.ID, TokenID: tok.ID, Granted: 100}, 1, true)
	must(t, err)
	var done atomic.Int64
	together(20, func(i int) {
		state := store.LeaseSettled
		if i%2 == 0 {
			state = store.LeaseRefunded
		}
		ok, err := e.s.Settle(ctx, store.SettleRequest{LeaseID: "l", UserID: u.ID, TokenID: tok.ID, ChannelID: ch.ID, ChargeToken: true, Granted: 100, Actual: 60, State: state, CountRequest: true})
		if err != nil {
			t.Error(err)
		}
		if ok {
			done.Add(1)
		}
	})
	equal(t, "done", done.Load(), 1)
	x := e.totals(t, u.ID)
	equal(t, "balance", x.Available, 940)
	equal(t, "used", x.Used, 60)
	equal(t, "requests", x.Requests, 1)
	equal(t, "channel", e.number(t, "SELECT used_quota FROM sluice_channels"), 60)
}

// testParallelMoney: whatever happens at once, nothing is made and nothing lost.
func testParallelMoney(t *testing.T, e *env) {
	ctx := within(t, 2*time.Minute)
	const start = 5000
	u := e.user(t, "bob", start)
	tok, _ := e.token(t, u.ID, start)
	ch := e.channel(t, core.Channel{})
	var spent, added atomic.Int64
	together(12, func(i int) {
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		for j := range 15 {
			l := store.Lease{ID: fmt.Sprintf("%d-%d", i, j), Node: "n", UserID: u.ID, TokenID: tok.ID, Granted: 1 + rnd.Int64N(300)}
			if rnd.IntN(8) == 0 { // management at the same time
				n := rnd.Int64N(50)
				if err := e.tryUpdate(ctx, func(tx *store.Tx) error { return tx.AddQuota(ctx, u.ID, n) }); err != nil {
					t.Error(err)
				}
				added.Add(n)
			}
			granted, err := e.s.Reserve(ctx, l, 1, true)
			if core.IsCode(err, core.CodeUserQuota) || core.IsCode(err, core.CodeTokenQuota) {
				continue
			}
			if err != nil {
				t.Error(err)
				continue
			}
			switch rnd.IntN(4) {
			case 0:
				err = e.s.CancelLease(ctx, l)
			case 1: // left open
			default:
				actual := rnd.Int64N(granted + 1)
				var done bool
				done, err = e.s.Settle(ctx, store.SettleRequest{LeaseID: l.ID, UserID: u.ID, TokenID: tok.ID, ChannelID: ch.ID, ChargeToken: true, Granted: granted, Actual: actual, State: store.LeaseSettled})
				if done {
					spent.Add(actual)
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	x := e.totals(t, u.ID)
	equal(t, "available + open + used", x.Available+x.Open+x.Used, start+added.Load())
	equal(t, "token: remain + open + used", x.Tokens[0].Remain+x.Tokens[0].Open+x.Tokens[0].Used, start)
	equal(t, "used", x.Used, spent.Load())
	equal(t, "channel", e.number(t, "SELECT used_quota FROM sluice_channels"), spent.Load())
	if x.Available < 0 {
		t.Fatalf("oversold: %+v", x)
	}
}

func testParallelMigrations(t *testing.T, e *env) {
	ctx := within(t, time.Minute)
	o := store.Options{Keys: Keys(t, Secret)}
	if e.mysql() {
		o.DSN = e.backend.NewDatabase(t)
	} else {
		o.SQLitePath = t.TempDir() + "/fresh.db"
	}
	epochs := make([]string, 4)
	together(len(epochs), func(i int) {
		s, err := store.Open(ctx, o)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = s.Close() }()
		if err := errors.Join(s.Migrate(ctx), s.CheckCanary(ctx)); err != nil {
			t.Error(err)
			return
		}
		if epochs[i], _, err = s.Revision(ctx); err != nil {
			t.Error(err)
		}
	})
	for _, epoch := range epochs {
		equal(t, "epoch", epoch, epochs[0])
	}
}

// testParallelPuts: the same new row by many is no error for any.
func testParallelPuts(t *testing.T, e *env) {
	ctx := within(t, time.Minute)
	for round := range 5 {
		together(8, func(i int) {
			if err := e.tryUpdate(ctx, func(tx *store.Tx) error {
				return errors.Join(tx.PutOption(ctx, fmt.Sprintf("k%d", round), fmt.Sprint(i)), tx.PutGroup(ctx, &core.Group{Name: fmt.Sprintf("g%d", round), Ratio: core.Ratio(i)}))
			}); err != nil {
				t.Error(err)
			}
			if err := e.s.UpsertNode(ctx, &core.Node{ID: fmt.Sprintf("n%d", round), Name: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	equal(t, "options", e.number(t, "SELECT COUNT(*) FROM sluice_options"), 5)
	equal(t, "nodes", e.number(t, "SELECT COUNT(*) FROM sluice_nodes"), 5)
}

// testParallelSetup: of many who find no root, one makes it.
func testParallelSetup(t *testing.T, e *env) {
	ctx := within(t, time.Minute)
	var made atomic.Int64
	together(8, func(i int) {
		mine := false
		err := e.tryUpdate(ctx, func(tx *store.Tx) error {
			mine = false
			there, err := tx.HasRoot(ctx)
			if err != nil || there {
				return err
			}
			mine = true
			return tx.CreateUser(ctx, &core.User{Username: fmt.Sprintf("root%d", i), Role: core.RoleRoot, Status: core.UserEnabled, Group: "default"})
		})
		if err != nil {
			t.Error(err)
		} else if mine {
			made.Add(1)
		}
	})
	equal(t, "roots made", made.Load(), 1)
	equal(t, "roots", e.number(t, "SELECT COUNT(*) FROM sluice_users WHERE role = 100"), 1)
}

// testConsistentFetch: rows and revision are of one state. Each commit sets two
// options to the same text, so a fetch that saw two states shows two texts.
func testConsistentFetch(t *testing.T, e *env) {
	ctx := within(t, time.Minute)
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		defer close(done)
		for i := range 60 {
			v := fmt.Sprint(i)
			if err := e.tryUpdate(ctx, func(tx *store.Tx) error { return errors.Join(tx.PutOption(ctx, "a", v), tx.PutOption(ctx, "b", v)) }); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer writer.Wait()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		r, err := e.s.FetchAll(ctx)
		must(t, err)
		if r.Rows.Options["a"] != r.Rows.Options["b"] {
			t.Fatalf("a is %s and b is %s", r.Rows.Options["a"], r.Rows.Options["b"])
		}
		if v := r.Rows.Options["a"]; v != "" {
			equal(t, "revision of "+v, fmt.Sprint((r.Rev/2)-1), v)
		}
	}
}

// testOppositeLocks: transactions that want the same rows in opposite order
// all get through.
func testOppositeLocks(t *testing.T, e *env) {
	ctx := within(t, time.Minute)
	users := []*core.User{e.user(t, "a", 0), e.user(t, "b", 0)}
	together(8, func(i int) {
		for range 10 {
			if err := e.tryUpdate(ctx, func(tx *store.Tx) error {
				return errors.Join(tx.AddQuota(ctx, users[i%2].ID, 1), tx.AddQuota(ctx, users[1-i%2].ID, 1))
			}); err != nil {
				t.Error(err)
			}
		}
	})
	for _, u := range users {
		equal(t, "balance of "+u.Username, e.totals(t, u.ID).Available, 80)
	}
}
