package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/cluster"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/ledger"
	"github.com/sluice-gateway/sluice/core/store"
)

func storeOptions(cfg *config.Config, keys *store.Keyring) store.Options {
	return store.Options{
		DSN: cfg.Database.DSN.Reveal(), LogDSN: cfg.Database.LogDSN.Reveal(), SQLitePath: cfg.Database.SQLitePath, Keys: keys,
		MaxOpen: cfg.Database.MaxOpen, MaxIdle: cfg.Database.MaxIdle, MaxLifetime: cfg.Database.MaxLifetime, SlowThreshold: cfg.Database.SlowThreshold,
	}
}

// openStore opens the database and brings its schema up. A database that does
// not answer is awaited: the node may have been started before it. What will
// not heal by itself (a wrong secret, a file that is no database) ends the start;
// an account or database that is missing may still be made, and is awaited too.
func (a *app) openStore(ctx context.Context, cfg *config.Config, keys *store.Keyring) error {
	o := storeOptions(cfg, keys)
	o.Logger = a.Logger
	o.OnError = func(op string, err error) { a.metrics.DBErrors.WithLabelValues(op).Inc() }
	return a.awaitDatabase(ctx, func() error {
		st, err := store.Open(ctx, o)
		if err != nil {
			return err
		}
		if err := a.prepareSchema(ctx, st); err != nil {
			return errors.Join(err, st.Close())
		}
		a.store = st
		a.onStop(func(context.Context) error { return st.Close() })
		return nil
	})
}

// errSchema means that a slave awaits its master's migrations.
var errSchema = errors.New("the schema is not this version's")

func (a *app) prepareSchema(ctx context.Context, st *store.Store) error {
	if a.node.Role == core.NodeSlave {
		n, err := st.Pending(ctx)
		if err != nil {
			return err
		}
		if n > 0 {
			return core.WrapError(core.CodeStoreUnavailable, errSchema, "it lacks %d migrations, which a master makes; start a node with NODE_TYPE=master", n)
		}
	} else if err := st.Migrate(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return st.CheckCanary(ctx)
}

// awaitDatabase repeats fn while the database does not answer.
func (a *app) awaitDatabase(ctx context.Context, fn func() error) error {
	wait, warned := 250*time.Millisecond, time.Time{}
	defer a.waiting.Store(nil)
	for {
		err := fn()
		if err == nil || !core.IsCode(err, core.CodeStoreUnavailable) || ctx.Err() != nil {
			return err
		}
		what := "the database does not answer"
		if errors.Is(err, errSchema) {
			what = "the schema of the database awaits a node with NODE_TYPE=master"
		}
		a.waiting.Store(&what)
		if time.Since(warned) > 10*time.Second {
			a.Logger.Warn("start: waiting for the database", "error", err)
			warned = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(wait*2, 3*time.Second)
	}
}

func (a *app) startState(ctx context.Context, cfg *config.Config, keys *store.Keyring, prices map[string]*core.Price) error {
	a.state = cluster.New(cluster.Options{
		Source: a.store, Hashes: keys.KeyHashes, Prices: prices, LookInterval: cfg.Sync.LookInterval, FullCheck: cfg.Sync.Frequency,
		Tokens: cfg.Sync.TokenCache, Negatives: cfg.Sync.NegativeCache, Logger: a.Logger, Metrics: a.metrics,
	})
	if err := a.awaitDatabase(ctx, func() error { return a.state.Start(ctx) }); err != nil {
		return fmt.Errorf("read the routing state: %w", err)
	}
	// Own writes are applied at commit. A failure is no failure of the write: the
	// next look applies it.
	a.store.OnCommit(func(ctx context.Context, rev core.Revision) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := a.state.CatchUp(ctx, rev); err != nil {
			a.Logger.Warn("sync: an own change is applied later", "revision", rev, "error", err)
			a.state.Look()
		}
	})
	a.goRun(a.state.Run)
	a.goRun(a.heartbeat)
	a.goRun(a.trim)
	return nil
}

// heartbeat keeps the node's row fresh.
func (a *app) heartbeat(ctx context.Context) {
	t := time.NewTicker(10 * time.Second)
	defer t.Stop()
	for {
		n := a.node
		n.Revision, n.SeenAt = a.state.Status().Revision, time.Now()
		wctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		if err := a.store.UpsertNode(wctx, &n); err != nil && ctx.Err() == nil {
			a.Logger.Debug("node row not written", "error", err)
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (a *app) startLedger(ctx context.Context) error {
	a.ledger = ledger.New(ledger.Options{
		Store: a.store, Logger: a.Logger, Metrics: a.metrics, NodeID: a.node.ID, Boot: a.node.Boot,
		Config: func() config.Billing { return a.Config.Get().Billing }, ErrorLog: func() bool { return a.Config.Get().Relay.ErrorLog }, Now: time.Now,
	})
	run, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.ledger.Run(run); err != nil && run.Err() == nil {
			a.Logger.Error("ledger stopped", "error", err)
		}
	}()
	a.onStop(func(ctx context.Context) error {
		err := a.ledger.Close(ctx)
		cancel()
		<-done
		return err
	})
	if err := a.ledger.Recover(ctx); err != nil {
		return fmt.Errorf("settle what an earlier run left: %w", err)
	}
	return nil
}
