package storetest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func (e *env) totals(t *testing.T, user int64) store.Totals {
	t.Helper()
	x, err := e.s.Totals(t.Context(), user)
	must(t, err)
	return x
}

func testReserve(t *testing.T, e *env) {
	ctx := t.Context()
	for i, c := range []struct {
		name               string
		user, token        int64
		want, min          int64
		charge             bool
		granted            int64
		code               core.Code
		userLeft, tokenHas int64
	}{
		{"covered", 100, 0, 30, 30, false, 30, "", 70, 0},
		{"exactly", 30, 0, 30, 30, false, 30, "", 0, 0},
		{"one short", 29, 0, 30, 30, false, 0, core.CodeUserQuota, 29, 0},
		{"what is left", 29, 0, 30, 29, false, 29, "", 0, 0},
		{"what is left is too little", 29, 0, 100, 30, false, 0, core.CodeUserQuota, 29, 0},
		{"nothing left", 0, 0, 30, 0, false, 0, core.CodeUserQuota, 0, 0},
		{"below zero", -5, 0, 30, -100, false, 0, core.CodeUserQuota, -5, 0},
		{"token covered", 100, 50, 30, 30, true, 30, "", 70, 20},
		{"token not charged", 100, 1, 30, 30, false, 30, "", 70, 1},
		{"token short", 100, 29, 30, 30, true, 0, core.CodeTokenQuota, 100, 29},
		{"what the token has", 100, 29, 30, 1, true, 29, "", 71, 0},
		{"what the user has", 29, 100, 30, 1, true, 29, "", 0, 71},
		{"the smaller of both", 20, 10, 30, 1, true, 10, "", 10, 0},
		{"both short, user first", 5, 5, 30, 10, true, 0, core.CodeUserQuota, 5, 5},
		{"user has min, token not", 20, 5, 30, 10, true, 0, core.CodeTokenQuota, 20, 5},
	} {
		u := e.user(t, fmt.Sprintf("u%d", i), c.user)
		tok, _ := e.token(t, u.ID, c.token)
		if c.code != "" && !e.backend.Isolated {
			continue // a refusal leaves by rolling back
		}
		l := store.Lease{ID: fmt.Sprintf("lease-%d", i), Node: "n", Boot: "b", RequestID: "r", UserID: u.ID, TokenID: tok.ID, Granted: c.want, Model: "m", Detail: "{}"}
		granted, err := e.s.Reserve(ctx, l, c.min, c.charge)
		if c.code != "" {
			if !core.IsCode(err, c.code) {
				t.Errorf("%s: %v, want %s", c.name, err, c.code)
			}
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		x := e.totals(t, u.ID)
		open := c.granted
		if !c.charge {
			open = 0
		}
		if granted != c.granted || x.Available != c.userLeft || x.Open != c.granted || x.Tokens[0].Remain != c.tokenHas || x.Tokens[0].Open != open {
			t.Errorf("%s: granted %d, totals %+v; want %d, %d left, token has %d", c.name, granted, x, c.granted, c.userLeft, c.tokenHas)
		}
	}
	u := e.user(t, "last", 100)
	_, err := e.s.Reserve(ctx, store.Lease{ID: "x", UserID: 9999, Granted: 1}, 1, false)
	wantCode(t, err, core.CodeUnauthorized)
	if e.backend.Isolated {
		_, err = e.s.Reserve(ctx, store.Lease{ID: "y", UserID: u.ID, TokenID: 9999, Granted: 1}, 1, true)
		wantCode(t, err, core.CodeUnauthorized)
		equal(t, "balance after refusals", e.totals(t, u.ID).Available, 100)
		_, err = e.s.Reserve(ctx, store.Lease{ID: "lease-0", UserID: u.ID, Granted: 1}, 1, false)
		wantCode(t, err, core.CodeConflict)
		equal(t, "balance after the same id", e.totals(t, u.ID).Available, 100)
	}
	for _, bad := range []store.Lease{{ID: "", UserID: u.ID, Granted: 1}, {ID: "z", UserID: u.ID, Granted: 0}, {ID: "z", UserID: u.ID, Granted: -1}, {ID: "z", UserID: u.ID, Granted: core.MaxQuota + 1}} {
		if _, err := e.s.Reserve(ctx, bad, 1, false); err == nil {
			t.Errorf("lease %+v was taken", bad)
		}
	}
}

func testSettle(t *testing.T, e *env) {
	ctx := t.Context()
	ch := e.channel(t, core.Channel{})
	for i, c := range []struct {
		name                 string
		granted, actual      int64
		state                string
		charge, count        bool
		user, used, requests int64
		token, tokenUsed     int64
	}{
		{"less", 50, 20, store.LeaseSettled, true, true, 80, 20, 1, 980, 20},
		{"the same", 50, 50, store.LeaseSettled, true, true, 50, 50, 1, 950, 50},
		{"more", 50, 130, store.LeaseSettled, true, true, -30, 130, 1, 870, 130},
		{"nothing", 50, 0, store.LeaseRefunded, true, false, 100, 0, 0, 1000, 0},
		{"unlimited token", 50, 20, store.LeaseSettled, false, true, 80, 20, 1, 1000, 20},
	} {
		u := e.user(t, fmt.Sprintf("u%d", i), 100)
		tok, _ := e.token(t, u.ID, 1000)
		used := e.number(t, "SELECT used_quota FROM sluice_channels")
		l := store.Lease{ID: fmt.Sprintf("l%d", i), UserID: u.ID, TokenID: tok.ID, Granted: c.granted}
		_, err := e.s.Reserve(ctx, l, 1, c.charge)
		must(t, err)
		r := store.SettleRequest{LeaseID: l.ID, UserID: u.ID, TokenID: tok.ID, ChannelID: ch.ID, ChargeToken: c.charge, Granted: c.granted, Actual: c.actual, State: c.state,
			AccessedAt: e.now, CountRequest: c.count}
		done, err := e.s.Settle(ctx, r)
		must(t, err)
		equal(t, c.name+": done", done, true)
		want := store.Totals{Available: c.user, Used: c.used, Requests: c.requests}
		for range 2 { // a second time changes nothing
			x := e.totals(t, u.ID)
			equal(t, c.name+": token", x.Tokens[0], store.TokenTotals{ID: tok.ID, Remain: c.token, Used: c.tokenUsed})
			x.Tokens = nil
			if x.Available != want.Available || x.Open != 0 || x.Used != want.Used || x.Requests != want.Requests {
				t.Errorf("%s: %+v, want %+v", c.name, x, want)
			}
			equal(t, c.name+": channel", e.number(t, "SELECT used_quota FROM sluice_channels"), used+c.actual)
			r.State = store.LeaseSettled
			done, err = e.s.Settle(ctx, r)
			must(t, err)
			equal(t, c.name+": done again", done, false)
		}
		got, err := e.s.Token(ctx, u.ID, tok.ID)
		must(t, err)
		equal(t, c.name+": used at", got.AccessedAt, e.now)
	}
	u := e.user(t, "last", 100)
	done, err := e.s.Settle(ctx, store.SettleRequest{LeaseID: "missing", UserID: u.ID, Granted: 50, Actual: 10, State: store.LeaseSettled, CountRequest: true})
	must(t, err)
	equal(t, "done of a missing lease", done, false)
	x := e.totals(t, u.ID)
	equal(t, "balance", x.Available, 100)
	equal(t, "used", x.Used, 0)
	tok, _ := e.token(t, u.ID, 10)
	done, err = e.s.Settle(ctx, store.SettleRequest{UserID: u.ID, TokenID: tok.ID, ChannelID: ch.ID, ChargeToken: true, Actual: 7, AccessedAt: e.now, CountRequest: true})
	must(t, err)
	equal(t, "done without a lease", done, true)
	x = e.totals(t, u.ID)
	equal(t, "balance without a lease", x.Available, 100)
	equal(t, "used without a lease", x.Used, 7)
	equal(t, "requests without a lease", x.Requests, 1)
	equal(t, "token without a lease", x.Tokens[0], store.TokenTotals{ID: tok.ID, Remain: 10, Used: 7})
	for _, bad := range []store.SettleRequest{{LeaseID: "x", State: "open"}, {LeaseID: "x", State: store.LeaseSettled, Actual: -1}, {LeaseID: "x", State: store.LeaseSettled, Actual: math.MaxInt64}} {
		if _, err := e.s.Settle(ctx, bad); err == nil {
			t.Errorf("%+v was booked", bad)
		}
	}
}

// testSettleByRow: what the lease says counts, not what the caller remembers;
// and who was deleted meanwhile holds nothing up.
func testSettleByRow(t *testing.T, e *env) {
	ctx := t.Context()
	u, other := e.user(t, "bob", 100), e.user(t, "eve", 100)
	tok, _ := e.token(t, u.ID, 100)
	_, err := e.s.Reserve(ctx, store.Lease{ID: "l", UserID: u.ID, TokenID: tok.ID, Granted: 40}, 1, true)
	must(t, err)
	done, err := e.s.Settle(ctx, store.SettleRequest{LeaseID: "l", UserID: other.ID, Granted: 90, Actual: 10, State: store.LeaseSettled})
	must(t, err)
	equal(t, "done", done, true)
	x := e.totals(t, u.ID)
	equal(t, "balance", x.Available, 90)
	equal(t, "token", x.Tokens[0].Remain, 90)
	equal(t, "other's balance", e.totals(t, other.ID).Available, 100)

	_, err = e.s.Reserve(ctx, store.Lease{ID: "gone", UserID: u.ID, TokenID: tok.ID, Granted: 40}, 1, true)
	must(t, err)
	e.update(t, func(tx *store.Tx) error { return tx.DeleteUser(ctx, u.ID) })
	done, err = e.s.Settle(ctx, store.SettleRequest{LeaseID: "gone", UserID: u.ID, TokenID: tok.ID, ChargeToken: true, Granted: 40, Actual: 10, State: store.LeaseSettled})
	must(t, err)
	equal(t, "done of a deleted user's", done, true)
}

func testProgress(t *testing.T, e *env) {
	ctx := t.Context()
	u := e.user(t, "bob", 1000)
	for _, l := range []store.Lease{
		{ID: "a", Node: "n1", Boot: "old", RequestID: "ra", UserID: u.ID, TokenID: 3, ChannelID: 4, Granted: 10, Model: "gpt", Detail: `{"a":1}`, CreatedAt: e.now},
		{ID: "b", Node: "n1", Boot: "new", UserID: u.ID, Granted: 10, CreatedAt: e.now.Add(-time.Second)},
		{ID: "c", Node: "n2", Boot: "old", UserID: u.ID, Granted: 10},
		{ID: "d", Node: "n1", Boot: "old", UserID: u.ID, Granted: 10},
	} {
		_, err := e.s.Reserve(ctx, l, 1, false)
		must(t, err)
	}
	_, err := e.s.Settle(ctx, store.SettleRequest{LeaseID: "d", UserID: u.ID, Granted: 10, State: store.LeaseSettled})
	must(t, err)
	must(t, e.s.Progress(ctx, "a", 1<<40, `{"so":"far"}`))
	must(t, e.s.Progress(ctx, "d", 5, "late"))
	must(t, e.s.Progress(ctx, "missing", 5, "x"))
	open, err := e.s.OpenLeases(ctx, "n1", "new")
	must(t, err)
	equal(t, "open leases of the earlier boot", len(open), 1)
	equal(t, "lease", open[0], store.Lease{ID: "a", Node: "n1", Boot: "old", RequestID: "ra", UserID: u.ID, TokenID: 3, ChannelID: 4, Granted: 10, Spent: 1 << 40,
		State: store.LeaseOpen, Model: "gpt", Detail: `{"so":"far"}`, CreatedAt: e.now})
	open, err = e.s.OpenLeases(ctx, "n1", "")
	must(t, err)
	equal(t, "open leases of the node", len(open), 2)
	equal(t, "oldest", open[0].ID, "b")
	equal(t, "spent of the closed", e.number(t, "SELECT spent FROM sluice_leases WHERE id = 'd'"), 0)
}

func testCancel(t *testing.T, e *env) {
	ctx := t.Context()
	u := e.user(t, "bob", 100)
	l := store.Lease{ID: "arrived", UserID: u.ID, Granted: 500}
	_, err := e.s.Reserve(ctx, l, 1, false) // took 100, and the answer was lost
	must(t, err)
	equal(t, "balance", e.totals(t, u.ID).Available, 0)
	must(t, e.s.CancelLease(ctx, l))
	must(t, e.s.CancelLease(ctx, l))
	equal(t, "balance after cancel", e.totals(t, u.ID).Available, 100)

	l.ID = "on its way"
	must(t, e.s.CancelLease(ctx, l))
	must(t, e.s.CancelLease(ctx, l))
	if e.backend.Isolated {
		_, err = e.s.Reserve(ctx, l, 1, false)
		wantCode(t, err, core.CodeConflict)
	}
	x := e.totals(t, u.ID)
	equal(t, "balance after the late one", x.Available, 100)
	equal(t, "open", x.Open, 0)
}

// testLargeSums: every sum has 64 bits and none goes over the edge.
func testLargeSums(t *testing.T, e *env) {
	ctx := t.Context()
	const big = int64(1) << 45
	u := e.user(t, "bob", 3*big)
	tok, _ := e.token(t, u.ID, 3*big)
	ch := e.channel(t, core.Channel{})
	settle := func(lease string, granted, actual int64) {
		t.Helper()
		_, err := e.s.Reserve(ctx, store.Lease{ID: lease, UserID: u.ID, TokenID: tok.ID, Granted: granted}, 1, true)
		must(t, err)
		done, err := e.s.Settle(ctx, store.SettleRequest{LeaseID: lease, UserID: u.ID, TokenID: tok.ID, ChannelID: ch.ID, ChargeToken: true, Granted: granted, Actual: actual, State: store.LeaseSettled, CountRequest: true})
		must(t, err)
		equal(t, "done", done, true)
	}
	settle("a", big, big+1)
	settle("b", big, big)
	x := e.totals(t, u.ID)
	equal(t, "balance", x.Available, big-1)
	equal(t, "used", x.Used, 2*big+1)
	equal(t, "token", x.Tokens[0], store.TokenTotals{ID: tok.ID, Remain: big - 1, Used: 2*big + 1})
	equal(t, "channel", e.number(t, "SELECT used_quota FROM sluice_channels"), 2*big+1)
	must(t, e.s.InsertLogs(ctx, []core.UsageLog{{At: e.now, Type: core.LogConsume, Quota: big, PromptTokens: big}, {At: e.now, Type: core.LogConsume, Quota: big}}))
	st, err := e.s.LogStat(ctx, core.LogFilter{})
	must(t, err)
	equal(t, "sum", st, core.LogStat{Quota: 2 * big, RPM: 2, TPM: big})

	for i := range 6 { // far more than 64 bits could hold
		e.update(t, func(tx *store.Tx) error { _, err := tx.SetQuota(ctx, u.ID, 10); return err })
		e.update(t, func(tx *store.Tx) error { return tx.SetTokenQuota(ctx, tok.ID, 10) })
		settle(fmt.Sprintf("huge %d", i), 10, core.MaxQuota)
	}
	x = e.totals(t, u.ID)
	if x.Available >= 0 || x.Used <= 0 || x.Tokens[0].Used <= 0 {
		t.Fatalf("a sum went over the edge: %+v", x)
	}
	if !e.mysql() {
		equal(t, "columns that are not whole numbers", e.number(t, "SELECT COUNT(*) FROM sluice_users WHERE typeof(quota) <> 'integer' OR typeof(used_quota) <> 'integer'"), 0)
	}
}

func testDeleteLeases(t *testing.T, e *env) {
	ctx := t.Context()
	u := e.user(t, "bob", 100)
	for _, l := range []string{"old open", "old closed", "new closed"} {
		at := e.now.Add(-time.Hour)
		if l == "new closed" {
			at = e.now
		}
		_, err := e.s.Reserve(ctx, store.Lease{ID: l, UserID: u.ID, Granted: 1, CreatedAt: at}, 1, false)
		must(t, err)
		if l != "old open" {
			_, err = e.s.Settle(ctx, store.SettleRequest{LeaseID: l, UserID: u.ID, Granted: 1, Actual: 1, State: store.LeaseSettled})
			must(t, err)
		}
	}
	n, err := e.s.DeleteLeases(ctx, e.now.Add(-time.Minute))
	must(t, err)
	equal(t, "deleted", n, 1)
	equal(t, "left", e.number(t, "SELECT COUNT(*) FROM sluice_leases"), 2)
	equal(t, "open", e.totals(t, u.ID).Open, 1)
}
