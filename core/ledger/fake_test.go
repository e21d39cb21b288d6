package ledger

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/store"
)

// fakeStore is a store of function fields; what is nil succeeds.
type fakeStore struct {
	reserve  func(ctx context.Context, l store.Lease, min int64, token bool) (int64, error)
	progress func(ctx context.Context, id string, spent int64, detail string) error
	settle   func(ctx context.Context, r store.SettleRequest) (bool, error)
	cancel   func(ctx context.Context, l store.Lease) error
	open     func(ctx context.Context, node, notBoot string) ([]store.Lease, error)
	insert   func(ctx context.Context, rows []core.UsageLog) error
}

func (f *fakeStore) Reserve(ctx context.Context, l store.Lease, min int64, token bool) (int64, error) {
	if f.reserve == nil {
		return l.Granted, nil
	}
	return f.reserve(ctx, l, min, token)
}

func (f *fakeStore) Progress(ctx context.Context, id string, spent int64, detail string) error {
	if f.progress == nil {
		return nil
	}
	return f.progress(ctx, id, spent, detail)
}

func (f *fakeStore) Settle(ctx context.Context, r store.SettleRequest) (bool, error) {
	if f.settle == nil {
		return true, nil
	}
	return f.settle(ctx, r)
}

func (f *fakeStore) CancelLease(ctx context.Context, l store.Lease) error {
	if f.cancel == nil {
		return nil
	}
	return f.cancel(ctx, l)
}

func (f *fakeStore) OpenLeases(ctx context.Context, node, notBoot string) ([]store.Lease, error) {
	if f.open == nil {
		return nil, nil
	}
	return f.open(ctx, node, notBoot)
}

func (f *fakeStore) InsertLogs(ctx context.Context, rows []core.UsageLog) error {
	if f.insert == nil {
		return nil
	}
	return f.insert(ctx, rows)
}

var errAway = core.Errorf(core.CodeStoreUnavailable, "away")

// rig is a ledger on a fake store, running until the test ends.
type rig struct {
	*Ledger
	fake *fakeStore
	snap *core.Snapshot
	out  *lockedBuffer
	stop func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Count(b.b.Bytes(), []byte(text))
}

func newRig(t *testing.T, f *fakeStore, options map[string]string, edit ...func(o *Options)) *rig {
	t.Helper()
	if options == nil {
		options = map[string]string{"PreConsumedQuota": "0"}
	}
	r := &rig{fake: f, out: &lockedBuffer{}, snap: snapshot(t, core.Rows{Options: options,
		Prices: map[string]*core.Price{"m": {Model: "m", Ratio: ratio("1")}}})}
	o := Options{Store: f, NodeID: "n", Boot: "b", Logger: slog.New(slog.NewTextHandler(r.out, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Config: func() config.Billing {
			return config.Billing{Mode: "direct", LogFlushInterval: time.Second, LogBatch: 10, ReserveTimeout: 250 * time.Millisecond}
		}}
	for _, e := range edit {
		e(&o)
	}
	r.Ledger = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx) // returns nil
	}()
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(r.stop)
	return r
}

func (r *rig) request(user int64) core.ReserveRequest {
	return core.ReserveRequest{RequestID: "req", Snapshot: r.snap, User: &core.User{ID: user, Username: "u", Group: "default"},
		Token: &core.Token{ID: 7, Name: "k"}, Group: "default", Model: "m", Operation: llm.OpChat, Input: 10, Output: 90, Choices: 1}
}

func used(n int64) core.Outcome {
	return core.Outcome{Usage: llm.Usage{Input: n}, EndReason: "done"}
}

// kept collects what a fake was given.
type kept[T any] struct {
	mu    sync.Mutex
	items []T
}

func (k *kept[T]) add(x ...T) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.items = append(k.items, x...)
}

func (k *kept[T]) all() []T {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.items)
}

func (k *kept[T]) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.items = nil
}
