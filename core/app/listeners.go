package app

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/web"
)

// listenMetrics opens the listeners that are not for clients. They answer while
// the database is awaited.
func (a *app) listenMetrics(cfg *config.Config) error {
	if cfg.Metrics.Listen != "" {
		mux := http.NewServeMux()
		h := promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{})
		mux.Handle("GET /metrics", bearer(cfg.Metrics.Token.Reveal(), h))
		err := a.listenSide("metrics.listen", cfg.Metrics.Listen, mux)
		if err != nil && cfg.Origin("metrics.listen").Source != config.SourceDefault {
			return err
		}
		if err != nil { // nobody asked for this address
			a.Logger.Warn("there are no metrics", "error", err)
		}
	}
	if cfg.Pprof.Listen != "" {
		mux := http.NewServeMux()
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		return a.listenSide("pprof.listen", cfg.Pprof.Listen, mux)
	}
	return nil
}

// bearer asks for the token where one is set.
func bearer(token string, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(got), []byte(token)) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the metrics token is needed", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *app) listenSide(key, addr string, h http.Handler) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%s: listen on %s: %w; choose another address, or \"\" for none", key, addr, err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ErrorLog: nil}
	go func() { _ = srv.Serve(ln) }()
	a.Logger.Info("listening", "for", strings.TrimSuffix(key, ".listen"), "address", ln.Addr().String())
	a.onStop(func(context.Context) error { return srv.Close() })
	return nil
}

// checks are what /readyz asks.
func (a *app) checks(ctx context.Context) []web.Check {
	st := a.state.Status()
	out := []web.Check{
		{Name: "started", OK: !a.starting.Load(), Detail: "the rooms are built", Required: true},
		{Name: "draining", OK: true, Detail: "takes new requests", Required: true},
		{Name: "snapshot", OK: a.state.Snapshot() != nil, Detail: fmt.Sprintf("revision %d, looked at %s ago", st.Revision, a.state.Lag().Round(time.Millisecond)), Required: true},
	}
	if a.draining.Load() {
		out[1].OK, out[1].Detail = false, "the node is stopping"
	}
	ping, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	db := web.Check{Name: "database", OK: true, Detail: a.store.Dialect()}
	if err := a.store.Ping(ping); err != nil {
		db.OK, db.Detail = false, "does not answer; known tokens are served from memory"
	}
	rows := web.Check{Name: "rows", OK: len(st.BadRows) == 0, Detail: fmt.Sprintf("%d rows are left at their last good state; the log names them", len(st.BadRows))}
	return append(out, db, rows)
}
