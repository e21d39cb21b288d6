package ledger

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/store"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

// fileTimeout is the least time that a request waits for SQLite.
const fileTimeout = 2 * time.Second

// Store is what the ledger needs of the database; *store.Store has it. Every
// call is one short transaction whose guards stand in WHERE.
type Store interface {
	Reserve(ctx context.Context, l store.Lease, min int64, chargeToken bool) (granted int64, err error)
	Progress(ctx context.Context, leaseID string, spent int64, detail string) error
	Settle(ctx context.Context, r store.SettleRequest) (done bool, err error)
	CancelLease(ctx context.Context, l store.Lease) error
	OpenLeases(ctx context.Context, node, notBoot string) ([]store.Lease, error)
	InsertLogs(ctx context.Context, rows []core.UsageLog) error
}

// Options make a Ledger.
type Options struct {
	Store    Store
	Logger   *slog.Logger
	Metrics  *telemetry.Metrics    // optional
	Config   func() config.Billing // read anew for each use
	ErrorLog func() bool           // optional: failed requests get a row in the usage log
	NodeID   string
	Boot     string           // new at each start of the process
	Now      func() time.Time // optional
	NewID    func() string    // optional: ids of leases, never the same twice

	MaxPending int // settlements that wait for the database; above, nothing is reserved. 0 = 100,000
	MaxLogs    int // rows that wait for the log database; above, the oldest are dropped. 0 = 100,000
}

// Ledger is the direct mode. Make it with New, run its background work with Run,
// and end with Close once no request is under way.
type Ledger struct {
	o      Options
	meters *meters
	lanes  *lanes
	single bool // the database has one writer: all accounts share a lane

	health  health
	settles settleQueue
	counts  counterBook
	notes   noteBook
	logs    logQueue

	recoverWanted atomic.Bool
	stop          chan struct{}
	stopOnce      sync.Once
}

var (
	_ core.Ledger    = (*Ledger)(nil)
	_ core.UsageSink = (*Ledger)(nil)
)

// New makes a ledger. It does nothing in the background before Run.
func New(o Options) *Ledger {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = newID
	}
	if o.ErrorLog == nil {
		o.ErrorLog = func() bool { return false }
	}
	if o.MaxPending <= 0 {
		o.MaxPending = 100_000
	}
	if o.MaxLogs <= 0 {
		o.MaxLogs = 100_000
	}
	l := &Ledger{o: o, meters: newMeters(o.Metrics), lanes: newLanes(), stop: make(chan struct{})}
	if d, ok := o.Store.(interface{ Dialect() string }); ok {
		l.single = d.Dialect() == "sqlite"
	}
	l.health.now = o.Now
	l.settles.init()
	l.counts.init()
	l.notes.init()
	l.logs.init(o.MaxLogs)
	return l
}

func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// state is what the ledger remembers of a reservation.
type state struct {
	mu     sync.Mutex
	ended  bool // settled or refunded
	off    bool // billing was off when it was made
	floor  int64
	detail *leaseDetail // nil = no lease
	noted  time.Time    // of the last progress note
	tokens int64        // at the last progress note
}

// end marks the reservation as ended; false if it was already.
func (s *state) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.ended
	s.ended = true
	return !was
}

func stateOf(r *core.Reservation) *state {
	if s, ok := r.State.(*state); ok {
		return s
	}
	s := &state{}
	r.State = s
	return s
}

// Reserve implements core.Ledger.
func (l *Ledger) Reserve(ctx context.Context, q core.ReserveRequest) (*core.Reservation, error) {
	cfg := l.o.Config()
	st := &state{off: cfg.Mode == "off", noted: l.o.Now()}
	r := &core.Reservation{Request: q, ChannelID: q.ChannelID, State: st}
	price, known := q.Snapshot.Price(q.Model)
	r.Price = *price
	r.Group, r.Special = q.Snapshot.GroupRatio(q.User.Group, q.Group)
	switch {
	case q.Operation.Free():
		r.Free = true
	case !known && acceptsUnset(&q):
		unset := UnsetRatio
		r.Price.Ratio = &unset
	case !known && !st.off:
		return nil, noPrice(q.Model)
	}
	r.Free = r.Free || isFree(&r.Price, r.Group)
	if r.Free || st.off {
		l.meters.open.Inc()
		return r, nil
	}
	if l.settles.len() >= l.o.MaxPending {
		return nil, unavailable(errors.New("too many settlements wait"))
	}
	if !l.health.admit() {
		return nil, unavailable(errors.New("the database did not answer the last requests"))
	}
	prompt := max(l.quote(r, &llm.Usage{Input: q.Input}), 1)
	bound := max(l.bound(r), prompt)
	r.TokenHas = q.Token != nil && !q.Token.UnlimitedQuota
	r.ID = l.o.NewID()
	st.floor = prompt
	detail := newDetail(r)
	st.detail = &detail
	lease := store.Lease{ID: r.ID, Node: l.o.NodeID, Boot: l.o.Boot, RequestID: q.RequestID, UserID: q.User.ID, ChannelID: q.ChannelID, Granted: bound, Spent: prompt,
		TokenCharged: r.TokenHas, Model: q.Model, Detail: detail.encode(nil), CreatedAt: l.o.Now()}
	if q.Token != nil {
		lease.TokenID = q.Token.ID
	}
	granted, err := l.take(ctx, lease, prompt, r.TokenHas, l.timeout())
	if err != nil {
		return nil, err
	}
	r.Amount = granted
	l.meters.open.Inc()
	return r, nil
}

// take reserves in the database. Once it is the caller's turn, the client's
// leaving does not break the transaction off: its outcome would be unclear.
func (l *Ledger) take(ctx context.Context, lease store.Lease, min int64, chargeToken bool, timeout time.Duration) (int64, error) {
	lane := l.lane(lease.UserID)
	if err := l.lanes.enter(ctx, lane, timeout); err != nil {
		if ctx.Err() != nil {
			return 0, err
		}
		return 0, unavailable(err)
	}
	tctx, cancel := patience(context.WithoutCancel(ctx), timeout)
	defer cancel()
	granted, err := l.o.Store.Reserve(tctx, lease, min, chargeToken)
	if err == nil || refused(err) {
		l.health.answered()
		l.lanes.leave(lane, through)
		return granted, err
	}
	l.health.failed()
	l.lanes.leave(lane, stalled)
	// The statements may have been sent: whether the lease stands is not known.
	l.later(&settlement{cancel: &lease, req: store.SettleRequest{LeaseID: lease.ID, UserID: lease.UserID}})
	return 0, unavailable(err)
}

// timeout is how long a request waits for the database. A file is never away,
// only slow: giving up on it would refuse what could be served.
func (l *Ledger) timeout() time.Duration {
	t := l.o.Config().ReserveTimeout
	if l.single {
		t = max(t, fileTimeout)
	}
	return t
}

func (l *Ledger) lane(userID int64) int64 {
	if l.single {
		return 0
	}
	return userID
}

// refused reports whether the database answered and took nothing.
func refused(err error) bool {
	var e *core.Error
	return errors.As(err, &e) && e.Code != core.CodeStoreUnavailable && e.Code != core.CodeInternal
}

// unavailable is what a client is told when nothing could be reserved.
func unavailable(cause error) error {
	e := core.WrapError(core.CodeStoreUnavailable, cause, "billing is not available for the moment; nothing was charged, try again in a few seconds")
	e.RetryAfter = 2 * time.Second
	return e
}

func noPrice(model string) error {
	e := core.Errorf(core.CodeModelPrice,
		"no price is configured for model %s; an administrator sets it in option ModelRatio (per token) or ModelPrice (per call), or lets such models through with SelfUseModeEnabled", model)
	e.Param = "model"
	return e
}

// acceptsUnset reports whether a model without a price is let through.
func acceptsUnset(q *core.ReserveRequest) bool {
	return q.Snapshot.Options.SelfUseModeEnabled || userSetting(q.User.Setting, "accept_unset_model_ratio_model")
}

// userSetting reads one switch of a user's settings.
func userSetting(setting, key string) bool {
	if !strings.Contains(setting, key) {
		return false
	}
	var m map[string]json.RawMessage
	return json.Unmarshal([]byte(setting), &m) == nil && string(m[key]) == "true"
}

func isFree(p *core.Price, group core.Ratio) bool {
	switch {
	case group <= 0:
		return true
	case p.PerCall != nil:
		return *p.PerCall <= 0
	case p.Ratio == nil:
		return false // no price known, and billing off: shown as 0
	}
	return *p.Ratio <= 0 && (p.AudioInputUSD == nil || *p.AudioInputUSD <= 0)
}

// bound is the most that the request may cost by what it says of itself: where
// the model has a price for sound or pictures, all tokens may be the dearest kind.
func (l *Ledger) bound(r *core.Reservation) int64 {
	q, p := &r.Request, &r.Price
	in, out := max(q.Input, q.Snapshot.Options.PreConsumedQuota), q.Output
	most := l.quote(r, &llm.Usage{Input: in, Output: out})
	if p.Audio == nil && p.AudioCompletion == nil && p.AudioInputUSD == nil && p.Image == nil {
		return most
	}
	for _, u := range []llm.Usage{{Output: out}, {AudioOutput: out}} {
		for _, v := range []llm.Usage{{Input: in}, {AudioInput: in}, {ImageInput: in}} {
			v.Output, v.AudioOutput = u.Output, u.AudioOutput
			most = max(most, l.quote(r, &v))
		}
	}
	return most
}

// quote is what u costs at the terms that the reservation fixed.
func (l *Ledger) quote(r *core.Reservation, u *llm.Usage) int64 {
	if r.Free {
		return 0
	}
	return Quote(&r.Price, r.Group, u, terms(r))
}

func terms(r *core.Reservation) Terms {
	q := &r.Request
	t := Terms{Model: q.Model, Size: q.Size, Quality: q.Quality}
	if q.Snapshot != nil {
		t.QuotaPerUnit, t.ToolPrices = q.Snapshot.Options.QuotaPerUnit, q.Snapshot.Options.ToolPrices
	}
	if q.Operation == llm.OpImageGenerations || q.Operation == llm.OpImageEdits {
		t.Calls = q.Choices
	}
	return t
}

// Settle implements core.Ledger. A second call, or one after Refund, does nothing.
func (l *Ledger) Settle(ctx context.Context, r *core.Reservation, o core.Outcome) core.Charge {
	st := stateOf(r)
	if !st.end() {
		l.o.Logger.ErrorContext(ctx, "reservation settled twice", "request_id", r.Request.RequestID)
		return core.Charge{}
	}
	l.meters.open.Dec()
	quota := l.quote(r, &o.Usage)
	row := l.consumed(r, &o, quota)
	if st.off {
		l.log(row)
		return core.Charge{Quota: quota}
	}
	if r.ID == "" {
		l.countFree(r)
		l.log(row)
		return core.Charge{Quota: quota}
	}
	l.book(ctx, l.settlement(r, &o, store.LeaseSettled, quota, row))
	return core.Charge{Quota: quota}
}

// Refund implements core.Ledger. A second call, or one after Settle, does nothing.
func (l *Ledger) Refund(ctx context.Context, r *core.Reservation, o core.Outcome) {
	st := stateOf(r)
	if !st.end() {
		l.o.Logger.ErrorContext(ctx, "reservation refunded after its end", "request_id", r.Request.RequestID)
		return
	}
	l.meters.open.Dec()
	if o.Err != nil && l.o.ErrorLog() {
		l.log(l.failed(r, &o))
	}
	if r.ID != "" {
		l.book(ctx, l.settlement(r, &o, store.LeaseRefunded, 0, nil))
	}
}

// Append implements core.UsageSink.
func (l *Ledger) Append(row core.UsageLog) { l.log(&logEntry{row: row}) }

// Run does the background work until ctx ends or Close is done.
func (l *Ledger) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, work := range []func(context.Context){l.runSettles, l.runNotes, l.runCounts, l.runLogs} {
		wg.Go(func() { work(ctx) })
	}
	select {
	case <-ctx.Done():
	case <-l.stop:
		cancel()
	}
	wg.Wait()
	return nil
}

// Close writes out what waits: settlements, counters, log rows. It tries until
// all is written or ctx ends; then what is left is named in the error. Leases
// that stay open are settled by Recover at the next start. Run may still be
// going, or have ended, and ends with Close.
func (l *Ledger) Close(ctx context.Context) error {
	defer l.stopOnce.Do(func() { close(l.stop) })
	wait := 20 * time.Millisecond
	for {
		l.settlePass(ctx)
		l.countPass(ctx)
		l.logPass(ctx)
		left := l.settles.len() + l.counts.len() + l.logs.len()
		if left == 0 {
			return nil
		}
		if !sleep(ctx, wait) {
			return &UnwrittenError{Settlements: l.settles.len(), Counters: l.counts.len(), Logs: l.logs.len()}
		}
		wait = min(wait*2, time.Second)
	}
}

// sleep waits; false means that ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
