// Package ledgertest is the suite that the ledger must pass on every database:
// amounts to the unit, no overselling, and the sum of all money constant.
package ledgertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/ledger"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/store"
)

// Billing is a configuration with short times.
func Billing() config.Billing {
	return config.Billing{Mode: "direct", LogFlushInterval: 20 * time.Millisecond, LogBatch: 100, AssumedOutput: 4096, ReserveTimeout: 250 * time.Millisecond}
}

// Snapshot has model "m" at one unit for each prompt and each output token,
// "call" at 100 units a call, "free" at nothing, and no least prompt.
func Snapshot(t testing.TB) *core.Snapshot {
	t.Helper()
	ratio := func(s string) *core.Ratio { r := core.MustRatio(s); return &r }
	s, err := core.NewSnapshot(1, "e", core.Rows{
		Options: map[string]string{"PreConsumedQuota": "0"},
		Prices: map[string]*core.Price{
			"m":    {Model: "m", Ratio: ratio("1")},
			"call": {Model: "call", PerCall: ratio("0.0002")},
			"free": {Model: "free", Ratio: ratio("0")},
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// World is a store with one user and one token, and a ledger on it.
type World struct {
	T        testing.TB
	Store    *store.Store
	Ledger   *ledger.Ledger
	User     *core.User
	Token    *core.Token
	Snapshot *core.Snapshot
	Channel  *core.Channel
	boots    int
}

// New makes a world. A token balance below zero makes an unlimited token. The
// ledger is closed and its money counted at the end of the test.
func New(t testing.TB, s *store.Store, balance, tokenBalance int64) *World {
	t.Helper()
	w := &World{T: t, Store: s, Snapshot: Snapshot(t), Channel: &core.Channel{ID: 0}}
	w.User, w.Token = w.Account("someone", balance, tokenBalance)
	w.Boot()
	total := w.Totals()
	sum := total.Available + total.Open + total.Used
	t.Cleanup(func() {
		end := w.Totals()
		if got := end.Available + end.Open + end.Used; got != sum {
			t.Errorf("money was made or lost: %d before, %d after (%+v)", sum, got, end)
		}
	})
	return w
}

// Account makes one more user with a token.
func (w *World) Account(name string, balance, tokenBalance int64) (*core.User, *core.Token) {
	w.T.Helper()
	u := &core.User{Username: name, Role: core.RoleUser, Status: core.UserEnabled, Group: "default", Quota: balance}
	k := &core.Token{Name: "key", Status: core.TokenEnabled, RemainQuota: max(tokenBalance, 0), UnlimitedQuota: tokenBalance < 0}
	_, err := w.Store.Update(w.T.Context(), core.SystemActor("test"), func(tx *store.Tx) error {
		if err := tx.CreateUser(w.T.Context(), u); err != nil {
			return err
		}
		k.UserID = u.ID
		return tx.CreateToken(w.T.Context(), k, core.Secret(fmt.Sprintf("%048d", u.ID)))
	})
	if err != nil {
		w.T.Fatal(err)
	}
	return u, k
}

// Boot starts a ledger, as a new start of the same node does. The former one is
// left as a crash leaves it.
func (w *World) Boot() {
	w.T.Helper()
	w.boots++
	l := ledger.New(ledger.Options{Store: w.Store, Config: Billing, NodeID: "node", Boot: fmt.Sprint("boot", w.boots)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Run(ctx) // returns nil
	}()
	w.T.Cleanup(func() {
		stop, cancelStop := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancelStop()
		if err := l.Close(stop); err != nil {
			w.T.Errorf("close: %v", err)
		}
		cancel()
		<-done
	})
	w.Ledger = l
}

// Totals is the user's money.
func (w *World) Totals() store.Totals {
	w.T.Helper()
	x, err := w.Store.Totals(context.Background(), w.User.ID)
	if err != nil {
		w.T.Fatal(err)
	}
	return x
}

// Request asks for model with so many prompt and output tokens.
func (w *World) Request(model string, input, output int64) core.ReserveRequest {
	return core.ReserveRequest{RequestID: "req", Snapshot: w.Snapshot, User: w.User, Token: w.Token, Group: "default", Model: model,
		Operation: llm.OpChat, Input: input, Output: output, Choices: 1}
}

// Reserve reserves and fails the test if that fails.
func (w *World) Reserve(model string, input, output int64) *core.Reservation {
	w.T.Helper()
	r, err := w.Ledger.Reserve(w.T.Context(), w.Request(model, input, output))
	if err != nil {
		w.T.Fatalf("reserve: %v", err)
	}
	return r
}

// Settle settles with so many tokens.
func (w *World) Settle(r *core.Reservation, input, output int64) int64 {
	return w.Ledger.Settle(context.Background(), r, core.Outcome{Usage: llm.Usage{Input: input, Output: output}, EndReason: "done"}).Quota
}

// Expect compares balance, open and used.
func (w *World) Expect(available, open, used int64) {
	w.T.Helper()
	if x := w.Totals(); x.Available != available || x.Open != open || x.Used != used {
		w.T.Fatalf("available %d open %d used %d, want %d %d %d", x.Available, x.Open, x.Used, available, open, used)
	}
}

// ExpectToken compares the token's balance and used.
func (w *World) ExpectToken(remain, used int64) {
	w.T.Helper()
	if x := w.Totals().Tokens[0]; x.Remain != remain || x.Used != used {
		w.T.Fatalf("token: remain %d used %d, want %d %d", x.Remain, x.Used, remain, used)
	}
}

// Eventually polls until ok or ten seconds are over.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}

// Run runs the suite; open makes an empty, migrated store.
func Run(t *testing.T, open func(t *testing.T) *store.Store) {
	for name, test := range map[string]func(t *testing.T, s *store.Store){
		"Settle": settle, "Refund": refund, "PerCall": perCall, "LowBalance": lowBalance, "TokenLimit": tokenLimit, "Unlimited": unlimited, "Refused": refused,
		"ParallelPrice": parallelPrice, "ParallelFiveTimes": parallelFiveTimes, "Crash": crash, "Free": free, "LogsSum": logsSum, "RandomWalk": randomWalk,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func settle(t *testing.T, s *store.Store) {
	w := New(t, s, 1000, 500)
	r := w.Reserve("m", 10, 90)
	if r.Amount != 100 || !r.TokenHas || r.ID == "" {
		t.Fatalf("%+v", r)
	}
	w.Expect(900, 100, 0)
	w.ExpectToken(400, 0)
	if q := w.Settle(r, 10, 20); q != 30 {
		t.Fatalf("charged %d", q)
	}
	w.Expect(970, 0, 30)
	w.ExpectToken(470, 30)
	if x := w.Totals(); x.Requests != 1 {
		t.Fatalf("%d requests", x.Requests)
	}
	w.Settle(r, 10, 20)                                      // twice is once
	w.Ledger.Refund(context.Background(), r, core.Outcome{}) // and never the other way
	w.Expect(970, 0, 30)
	r = w.Reserve("m", 10, 10)
	w.Settle(r, 10, 200) // above the bound
	w.Expect(760, 0, 240)
	w.ExpectToken(260, 240)
	r = w.Reserve("m", 10, 10)
	w.Settle(r, 0, 0) // no usage
	w.Expect(760, 0, 240)
}

func refund(t *testing.T, s *store.Store) {
	w := New(t, s, 1000, 500)
	r := w.Reserve("m", 10, 90)
	w.Ledger.Refund(context.Background(), r, core.Outcome{Err: core.Errorf(core.CodeUpstreamConnect, "no")})
	w.Expect(1000, 0, 0)
	w.ExpectToken(500, 0)
	if x := w.Totals(); x.Requests != 0 {
		t.Fatalf("%d requests", x.Requests)
	}
	w.Settle(r, 1, 1)
	w.Expect(1000, 0, 0)
}

func perCall(t *testing.T, s *store.Store) {
	w := New(t, s, 250, -1)
	for range 2 {
		w.Settle(w.Reserve("call", 5, 5), 1, 1)
	}
	w.Expect(50, 0, 200)
	if _, err := w.Ledger.Reserve(t.Context(), w.Request("call", 5, 5)); !core.IsCode(err, core.CodeUserQuota) {
		t.Fatalf("half a price let a call in: %v", err)
	}
}

// lowBalance: the prompt is covered, the bound is not.
func lowBalance(t *testing.T, s *store.Store) {
	w := New(t, s, 100, -1)
	r := w.Reserve("m", 50, 1000)
	if r.Amount != 100 {
		t.Fatalf("took %d", r.Amount)
	}
	w.Expect(0, 100, 0)
	if _, err := w.Ledger.Reserve(t.Context(), w.Request("m", 1, 0)); !core.IsCode(err, core.CodeUserQuota) {
		t.Fatalf("a second request got in: %v", err)
	}
	w.Settle(r, 50, 80)
	w.Expect(-30, 0, 130) // what the first cost above the balance
	if _, err := w.Ledger.Reserve(t.Context(), w.Request("m", 1, 0)); !core.IsCode(err, core.CodeUserQuota) {
		t.Fatalf("a request on a debt: %v", err)
	}
}

func tokenLimit(t *testing.T, s *store.Store) {
	w := New(t, s, 1000, 60)
	r := w.Reserve("m", 50, 50)
	if r.Amount != 60 { // the smaller of both
		t.Fatalf("took %d", r.Amount)
	}
	w.Expect(940, 60, 0)
	w.ExpectToken(0, 0)
	if _, err := w.Ledger.Reserve(t.Context(), w.Request("m", 1, 0)); !core.IsCode(err, core.CodeTokenQuota) {
		t.Fatalf("%v", err)
	}
	w.Expect(940, 60, 0) // the user's part of the refused one is back
	w.Settle(r, 5, 5)
	w.Expect(990, 0, 10)
	w.ExpectToken(50, 10)
}

func unlimited(t *testing.T, s *store.Store) {
	w := New(t, s, 1000, -1)
	r := w.Reserve("m", 50, 50)
	if r.TokenHas {
		t.Fatal("an unlimited token was charged")
	}
	w.Settle(r, 5, 5)
	w.Expect(990, 0, 10)
	w.ExpectToken(0, 10) // used is counted all the same
	w.Token = nil        // charged to the user alone
	w.Settle(w.Reserve("m", 1, 1), 1, 1)
	w.Expect(988, 0, 12)
}

func refused(t *testing.T, s *store.Store) {
	w := New(t, s, 0, -1)
	_, err := w.Ledger.Reserve(t.Context(), w.Request("nobody", 1, 1))
	if !core.IsCode(err, core.CodeModelPrice) {
		t.Fatalf("no price: %v", err)
	}
	if _, err := w.Ledger.Reserve(t.Context(), w.Request("m", 0, 0)); !core.IsCode(err, core.CodeUserQuota) {
		t.Fatalf("empty balance: %v", err)
	}
	w.Expect(0, 0, 0)
}

// run sends n requests at once; each that gets in is settled once all others have
// asked. It returns how many got in.
func run(t *testing.T, w *World, n int, input, output, actual int64) int64 {
	var in atomic.Int64
	var asked, all sync.WaitGroup
	asked.Add(n)
	for range n {
		all.Go(func() {
			r, err := w.Ledger.Reserve(context.Background(), w.Request("m", input, output))
			asked.Done()
			if err != nil {
				if !core.IsCode(err, core.CodeUserQuota) {
					t.Errorf("refused with %v", err)
				}
				return
			}
			in.Add(1)
			asked.Wait()
			w.Settle(r, input, actual-input)
		})
	}
	all.Wait()
	return in.Load()
}

func parallelPrice(t *testing.T, s *store.Store) {
	w := New(t, s, 1000, -1)
	started := time.Now()
	if n := run(t, w, 200, 10, 90, 100); n != 10 {
		t.Fatalf("%d of 200 got in, the balance pays for 10", n)
	}
	t.Logf("200 at once took %s", time.Since(started).Round(time.Millisecond))
	w.Expect(0, 0, 1000)
	if x := w.Totals(); x.Requests != 10 {
		t.Fatalf("%d requests", x.Requests)
	}
}

func parallelFiveTimes(t *testing.T, s *store.Store) {
	w := New(t, s, 1000, 1000)
	n := run(t, w, 200, 10, 490, 100)
	if n < 2 {
		t.Fatalf("%d got in, the balance covers two bounds", n)
	}
	for {
		r, err := w.Ledger.Reserve(t.Context(), w.Request("m", 10, 490))
		if err != nil {
			break
		}
		w.Settle(r, 10, 90)
		n++
	}
	if n != 10 {
		t.Fatalf("%d in all, the balance pays for 10", n)
	}
	w.Expect(0, 0, 1000)
}

// crash: what is open at the end of a boot is settled by what is known of it.
func crash(t *testing.T, s *store.Store) {
	w := New(t, s, 10_000, 10_000)
	w.Reserve("m", 10, 990)         // only its prompt is known
	far := w.Reserve("m", 20, 1980) // got on
	w.Ledger.Extend(far, llm.Usage{Input: 20, Output: 1100})
	Eventually(t, "the note is written", func() bool {
		open, err := s.OpenLeases(t.Context(), "node", "")
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range open {
			if x.Spent == 1120 {
				return true
			}
		}
		return false
	})
	w.Settle(w.Reserve("m", 5, 5), 5, 5)
	w.Expect(10_000-1000-2000-10, 3000, 10)
	w.Boot()
	w.Reserve("m", 1, 6) // of the new boot: not touched
	for range 2 {        // the second finds nothing
		if err := w.Ledger.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Expect(10_000-10-1120-10-7, 7, 10+1120+10)
		w.ExpectToken(10_000-10-1120-10-7, 10+1120+10)
	}
	var rows []core.UsageLog
	Eventually(t, "the rows are written", func() bool {
		page, err := s.Logs(t.Context(), core.LogFilter{UserID: w.User.ID, Type: core.LogConsume}, core.PageQuery{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		rows = page.Items
		return len(rows) == 3
	})
	var sum int64
	for _, r := range rows {
		sum += r.Quota
		if r.Username != "someone" || r.TokenName != "key" || r.Model != "m" || r.RequestID != "req" {
			t.Errorf("row: %+v", r)
		}
	}
	if sum != 1140 {
		t.Fatalf("rows sum to %d", sum)
	}
}

func free(t *testing.T, s *store.Store) {
	w := New(t, s, 0, 0)
	for range 5 {
		r := w.Reserve("free", 100, 100)
		if r.ID != "" || !r.Free {
			t.Fatalf("%+v", r)
		}
		w.Ledger.Extend(r, llm.Usage{Output: 5000})
		if q := w.Settle(r, 100, 100); q != 0 {
			t.Fatalf("charged %d", q)
		}
	}
	count := w.Request("m", 100, 0)
	count.Operation = llm.OpMessagesCount
	r, err := w.Ledger.Reserve(t.Context(), count)
	if err != nil || !r.Free {
		t.Fatal(err, r)
	}
	if q := w.Settle(r, 100, 0); q != 0 {
		t.Fatalf("counting tokens cost %d", q)
	}
	Eventually(t, "free requests are counted", func() bool { return w.Totals().Requests == 6 })
	w.Expect(0, 0, 0)
}

func logsSum(t *testing.T, s *store.Store) {
	w := New(t, s, 1_000_000, -1)
	for i := range 250 {
		w.Settle(w.Reserve("m", 10, 90), 10, int64(i))
	}
	Eventually(t, "all rows are written", func() bool {
		page, err := s.Logs(t.Context(), core.LogFilter{UserID: w.User.ID}, core.PageQuery{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		return page.Total == 250
	})
	stat, err := s.LogStat(t.Context(), core.LogFilter{UserID: w.User.ID, Type: core.LogConsume})
	if err != nil {
		t.Fatal(err)
	}
	if used := w.Totals().Used; stat.Quota != used || used != 250*10+249*250/2 {
		t.Fatalf("rows sum to %d, used is %d", stat.Quota, used)
	}
}

// randomWalk does everything in random order and counts after each step.
func randomWalk(t *testing.T, s *store.Store) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := New(t, s, 5000, 3000)
	var open []*core.Reservation
	for step := range 150 {
		switch k := rnd.IntN(10); {
		case k < 4:
			r, err := w.Ledger.Reserve(t.Context(), w.Request("m", rnd.Int64N(50), rnd.Int64N(400)))
			if err == nil {
				open = append(open, r)
			} else if !core.IsCode(err, core.CodeUserQuota) && !core.IsCode(err, core.CodeTokenQuota) {
				t.Fatal(err)
			}
		case k < 9 && len(open) > 0:
			i := rnd.IntN(len(open))
			r := open[i]
			open = append(open[:i], open[i+1:]...)
			switch rnd.IntN(3) {
			case 0:
				w.Ledger.Refund(t.Context(), r, core.Outcome{})
			case 1:
				w.Ledger.Extend(r, llm.Usage{Input: 5, Output: rnd.Int64N(3000)})
				w.Settle(r, 5, rnd.Int64N(100))
			default:
				w.Settle(r, rnd.Int64N(50), rnd.Int64N(300))
			}
		case k == 9:
			open = nil
			w.Boot()
			if err := w.Ledger.Recover(t.Context()); err != nil {
				t.Fatal(err)
			}
			if x := w.Totals(); x.Open != 0 {
				t.Fatalf("step %d: %d open after recovery", step, x.Open)
			}
		}
		x := w.Totals()
		if sum := x.Available + x.Open + x.Used; sum != 5000 {
			t.Fatalf("step %d: the user's money is %d: %+v", step, sum, x)
		}
		if k := x.Tokens[0]; k.Remain+k.Open+k.Used != 3000 {
			t.Fatalf("step %d: the token's money is %+v", step, k)
		}
	}
}
