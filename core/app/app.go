package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-gateway/sluice/configs"
	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/cluster"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/inmem"
	"github.com/sluice-gateway/sluice/core/ledger"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/llm/claude"
	"github.com/sluice-gateway/sluice/core/llm/gemini"
	"github.com/sluice-gateway/sluice/core/llm/openai"
	"github.com/sluice-gateway/sluice/core/llm/responses"
	"github.com/sluice-gateway/sluice/core/provider"
	"github.com/sluice-gateway/sluice/core/relay"
	"github.com/sluice-gateway/sluice/core/store"
	"github.com/sluice-gateway/sluice/core/telemetry"
	"github.com/sluice-gateway/sluice/core/web"
)

// Options are what Run needs beside the configuration.
type Options struct {
	Config *config.Holder
	Logger *slog.Logger
	Demo   bool      // create root, channels and a token for a first try, and run the fake LLM
	Out    io.Writer // where the demo prints its curl lines
	// Listening is called with the address once the main listener takes requests.
	Listening func(addr net.Addr)
}

// codecs is the table of wire formats.
func codecs() llm.Codecs {
	return llm.Codecs{
		llm.OpenAI:    openai.New(),
		llm.Responses: responses.New(),
		llm.Claude:    claude.New(),
		llm.Gemini:    gemini.New(),
	}
}

// app is one running node. Fields are set by build in the order of the floors.
type app struct {
	Options
	node     core.Node
	registry *prometheus.Registry
	metrics  *telemetry.Metrics
	waiting  atomic.Pointer[string] // what the start waits for, in words that strangers may read
	store    *store.Store
	state    *cluster.State
	ledger   *ledger.Ledger
	relay    *relay.Relay
	web      *web.Server

	starting atomic.Bool
	draining atomic.Bool
	stops    []func(context.Context) error // in the order of their making
}

// Run builds a node, serves until ctx ends, drains and stops it. An error means
// that it could not start or did not stop cleanly.
func Run(ctx context.Context, o Options) error {
	cfg := o.Config.Get()
	tuneGC()
	version := telemetry.Version()
	if cfg.Node.Version != "" {
		version = cfg.Node.Version
	}
	node, release, err := identity(cfg, version)
	if err != nil {
		return err
	}
	a := &app{Options: o, node: node, registry: prometheus.NewRegistry()}
	a.onStop(func(context.Context) error { return release() })
	a.starting.Store(true)
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.metrics = telemetry.NewMetrics(a.registry)
	a.metrics.BuildInfo.WithLabelValues(node.Version).Set(1)
	err = a.serve(ctx)
	stopCtx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(err, a.stop(stopCtx))
}

func (a *app) onStop(fn func(context.Context) error) { a.stops = append(a.stops, fn) }

func (a *app) stop(ctx context.Context) error {
	var errs []error
	for i := len(a.stops) - 1; i >= 0; i-- {
		if err := a.stops[i](ctx); err != nil {
			errs = append(errs, err)
		}
	}
	a.stops = nil
	return errors.Join(errs...)
}

// serve opens the listeners first, so that probes get an answer while the
// database is awaited, then builds the rooms and serves until ctx ends.
func (a *app) serve(ctx context.Context) error {
	cfg := a.Config.Get()
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Server.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; name a free port with PORT, --port or server.listen", cfg.Server.Listen, err)
	}
	if err := a.listenMetrics(cfg); err != nil {
		return errors.Join(err, ln.Close())
	}
	gate := &gate{}
	gate.set(a.notReady())
	srv := web.NewHTTPServer(cfg, gate, a.Logger)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	a.onStop(func(context.Context) error { return srv.Close() })

	if err := a.build(ctx, cfg); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	gate.set(a.web.Handler())
	a.starting.Store(false)
	a.Logger.Info("serving", "address", ln.Addr().String(), "node", a.node.Name, "node_id", a.node.ID, "role", a.node.Role, "version", a.node.Version, "database", a.store.Dialect())
	if a.Demo {
		if err := a.demo(ctx, ln.Addr()); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	if a.Listening != nil {
		a.Listening(ln.Addr())
	}
	select {
	case err := <-served:
		return fmt.Errorf("main listener: %w", err)
	case <-ctx.Done():
	}
	return a.drain(srv, gate)
}

// drainNotice is how long a draining node with running requests still takes new
// ones: load balancers see /readyz fail before the port closes.
const drainNotice = 5 * time.Second

// drain lets running requests end, within server.shutdown_timeout.
func (a *app) drain(srv *http.Server, g *gate) error {
	limit := a.Config.Get().Server.ShutdownTimeout
	a.draining.Store(true)
	a.Logger.Info("draining", "limit", limit.String(), "running", g.running.Load())
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	g.awaitIdle(ctx, drainNotice)
	if err := srv.Shutdown(ctx); err != nil {
		a.Logger.Warn("drain: the limit is over, running requests are cut", "error", err)
		return nil
	}
	a.Logger.Info("drained")
	return nil
}

// gate is the handler that can be exchanged while the listener runs. It counts
// the requests that run.
type gate struct {
	h       atomic.Pointer[http.Handler]
	running atomic.Int64
}

func (g *gate) set(h http.Handler) { g.h.Store(&h) }

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.running.Add(1)
	defer g.running.Add(-1)
	(*g.h.Load()).ServeHTTP(w, r)
}

// awaitIdle returns when no request runs, at the latest after limit.
func (g *gate) awaitIdle(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for g.running.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (a *app) build(ctx context.Context, cfg *config.Config) error {
	prices, err := ledger.LoadPrices(configs.Prices())
	if err != nil {
		return fmt.Errorf("built-in price list: %w", err)
	}
	catalogue, err := provider.Load(configs.Providers())
	if err != nil {
		return fmt.Errorf("provider catalogue: %w", err)
	}
	catalogue.UserAgent = "sluice/" + a.node.Version
	keys, err := store.NewKeyring(cfg.Secrets.Crypto, cfg.Secrets.CryptoOld)
	if err != nil {
		return fmt.Errorf("CRYPTO_SECRET: %w", err)
	}
	if err := a.openStore(ctx, cfg, keys); err != nil {
		return err
	}
	if err := a.startState(ctx, cfg, keys, prices); err != nil {
		return err
	}
	if err := a.startLedger(ctx); err != nil {
		return err
	}
	transport := provider.NewTransport(provider.TransportOptions{
		Policy: provider.Policy{Networks: cfg.Relay.UpstreamNetworks}, ConnectTimeout: cfg.Relay.ConnectTimeout, TLSInsecureSkipVerify: cfg.Relay.TLSInsecureSkipVerify,
		MaxIdleConns: cfg.Relay.MaxIdleConns, MaxIdleConnsPerHost: cfg.Relay.MaxIdleConnsPerHost, IdleConnTimeout: cfg.Relay.IdleConnTimeout, UseEnvProxy: cfg.Relay.UseEnvProxy,
	})
	a.onStop(func(context.Context) error { transport.CloseIdleConnections(); return nil })
	formats := codecs()
	a.relay = relay.New(relay.Options{
		Snapshot: a.state.Snapshot, Tokens: a.state, Ledger: a.ledger, Codecs: formats, Providers: catalogue, Transport: transport,
		Config: a.Config.Get, Describe: web.Describe, ClientIP: web.NewClientIP(a.Config.Get), Logger: a.Logger, Metrics: a.metrics,
	})
	a.web, err = web.New(web.Options{
		Store: a.store, Keys: keys, Relay: a.relay, Codecs: formats, Snapshot: a.state.Snapshot, Prices: prices, Config: a.Config.Get, Providers: catalogue,
		Client: provider.NewClient(catalogue, transport), Ready: a.checks, Counters: inmem.NewCounters(inmem.Options{}), Node: a.node, Version: a.node.Version,
		Logger: a.Logger, Metrics: a.metrics, MetricsHandler: promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}), Now: time.Now,
	})
	if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	a.onStop(func(context.Context) error { a.web.Close(); return nil })
	return nil
}

// goRun runs fn in a goroutine of the app's, which stop cancels and awaits.
func (a *app) goRun(fn func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { fn(ctx) })
	a.onStop(func(context.Context) error { cancel(); wg.Wait(); return nil })
}
